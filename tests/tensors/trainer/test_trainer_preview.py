"""Rows as people see them before a training, made by the functions that the job uses."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.cli import preview_views
from services.data_ingest.convert import Request as ConvertRequest
from services.data_ingest.convert import convert
from services.data_ingest.lines import read_lines
from services.trainer.job.masks import Ends, check_ends, count_ends, masks_of
from services.trainer.job.rows import read_rows, reader
from services.trainer.preview import Preview, Request, load_tokenizer, preview, settled_for, texts_of
from shared.errors import InvalidInputError
from shared.prompts import end_token_id
from shared.recipe import TrainingRecipe

LINES = [
    '{"prompt": "Wo ist die Karte? 日本", "completion": "card_lost", "label": true, "rejected": "refund_status"}',
    '{"prompt": "A question", "completion": "an answer that is far longer than there is room for, and so is cut off'
    ' long before it comes to its end", "label": false, "rejected": "no"}',
    '{"prompt": "no answer"}',
]
TRAINED = {
    "sft": [("answer", "card_lost<|im_end|>")], "kto": [("answer", "card_lost<|im_end|>")],
    "dpo": [("chosen", "card_lost<|im_end|>"), ("rejected", "refund_status<|im_end|>")],
}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


def rows_of(folder: Path, objective: Any) -> list[dict[str, Any]]:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(LINES))
    with file.open("rb") as stream:
        found = convert(read_lines(stream, 1000), folder, ConvertRequest(file=file, objective=objective))
    assert (found.rows, found.bad) == (2, 1)
    assert found.problems[0].startswith("row 3: ")
    return read_rows(folder / "train.parquet", objective)


def shown_by(tmp_path: Path, tokenizer: Any, objective: Any, **recipe: Any) -> Preview:
    request = Request(recipe=TrainingRecipe(objective=objective, **recipe), base_folder=tmp_path, rows_folder=tmp_path)
    return preview(request, tokenizer, rows_of(tmp_path, objective))


@pytest.mark.parametrize("objective", TRAINED)
def test_what_is_trained_ends_and_is_cut_is_marked_for_each_objective(
    tmp_path: Path, tokenizer: Any, objective: str
) -> None:
    told = shown_by(tmp_path, tokenizer, objective, max_length=40)
    first, second = told.rows
    seen = [(s.name, "".join(t.text for t in s.tokens if t.kind in ("trained", "end"))) for s in first.sequences]
    assert seen == TRAINED[objective]
    assert [s.tokens[-1].kind for s in first.sequences] == ["end"] * len(seen)
    assert "Wo ist die Karte? 日本" in "".join(token.text for token in first.sequences[0].tokens)
    assert second.sequences[0].cut > 0
    assert {token.kind for token in second.sequences[0].tokens[40:]} == {"cut"}
    assert (told.counts.rows, told.counts.skipped, told.counts.cut, told.counts.with_end) == (2, 0, 1, 1)
    assert told.refusal == ""

    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(preview_views.preview(told.model_dump()))
    said = captured.get()
    assert "⟦card_lost⟧⟦<|im_end|>⟧" in said
    assert "1 of 2" in said
    assert "✂" in said.partition("row 2")[2]


def test_rows_that_a_run_would_be_refused_for_say_so(tmp_path: Path, tokenizer: Any) -> None:
    assert "only 0 of 1 training rows" in shown_by(tmp_path, tokenizer, "sft", max_length=31).refusal
    told = shown_by(tmp_path, tokenizer, "sft", max_length=8)
    assert "no row has its answer within 8 tokens" in told.refusal
    assert all(row.skipped for row in told.rows)
    with pytest.raises(InvalidInputError, match="no train rows to show"):
        preview(Request(recipe=TrainingRecipe(), base_folder=tmp_path, rows_folder=tmp_path), tokenizer, [])


def test_what_a_recipe_leaves_open_is_what_a_run_on_these_rows_would_choose(
    tmp_path: Path, tokenizer: Any, tiny_model: Path
) -> None:
    rows = rows_of(tmp_path, "sft")
    asked = TrainingRecipe.model_validate({"maxLength": "auto", "epochs": "auto", "lora": {"rank": "auto"}})
    settled = settled_for(asked, tokenizer, tiny_model, tmp_path / "train.parquet")
    request = Request(recipe=settled.recipe, base_folder=tiny_model, rows_folder=tmp_path)
    told = preview(request, tokenizer, rows, settled.chosen)
    assert told.max_length == -(-told.counts.longest // 8) * 8
    assert (told.counts.cut, told.counts.with_end, settled.recipe.epochs) == (0, 2, 3.0)
    assert set(told.chosen) == {"maxLength", "epochs", "lora.rank", "lora.alpha"}
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(preview_views.preview(told.model_dump()))
    assert f"the longest row has {told.counts.longest} tokens; 0 of 2 rows are longer" in captured.get()
    assert settled_for(TrainingRecipe(), tokenizer, tmp_path, tmp_path / "train.parquet").chosen == {}


def test_each_token_has_its_own_text_and_no_character_is_torn(tokenizer: Any) -> None:
    ids = tokenizer("Zürich 日本\n")["input_ids"]
    assert len(ids) == len(list(texts_of(ids, tokenizer)))
    assert "".join(texts_of(ids, tokenizer)) == "Zürich 日本\n"


@pytest.mark.parametrize("objective", TRAINED)
def test_too_few_ends_are_refused_before_the_first_step(tmp_path: Path, tokenizer: Any, objective: Any) -> None:
    recipe = TrainingRecipe(objective=objective, max_length=40)
    records = [reader(recipe, tokenizer)(row) or {} for row in rows_of(tmp_path, objective)]
    assert count_ends(records, tokenizer) == Ends(rows=2, trained=1)
    assert [mask.ids[-1] == end_token_id(tokenizer) for mask in (masks_of(records[0])[0], masks_of(records[1])[0])] == [
        True, False]
    check_ends(Ends(rows=2, trained=1), 40)
    with pytest.raises(InvalidInputError, match=r"only 4 of 10 .* within 40 tokens: .* Raise training.maxLength"):
        check_ends(Ends(rows=10, trained=4), 40)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_texts_have_no_mask_to_show(tmp_path: Path, tokenizer: Any) -> None:
    request = Request(recipe=TrainingRecipe(objective="pretrain"), base_folder=tmp_path, rows_folder=tmp_path)
    with pytest.raises(InvalidInputError, match="trains every token of each text"):
        preview(request, tokenizer, [{"text": "a"}])
