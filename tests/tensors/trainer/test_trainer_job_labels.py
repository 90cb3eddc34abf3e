"""The labels that reach the model: what the collator of the real trainer makes of a dataset version's rows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.trainer.job.data import load_splits
from services.trainer.job.methods import check_target_modules, lora_config
from services.trainer.job.objectives import make_trainer
from shared.base_models.tiny import build_tiny
from shared.errors import InvalidInputError
from shared.prompts import IGNORED_LABEL, end_token_id
from shared.recipe import TrainingRecipe
from tests.support.templates import SMOLLM2_TEMPLATE

ROWS = [("I lost my card", "card_lost"), ("Where is the money for the blue shirt that I sent back?", "refund_status")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(target)
    return target


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    messages = [[{"role": "user", "content": said}, {"role": "assistant", "content": answer}] for said, answer in ROWS]
    for split in ("train", "validation"):
        pq.write_table(pa.table({"messages": messages}), folder / f"{split}.parquet")
    return folder


def rows_of(batch: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """Tokens and labels of the rows of a packed batch, which begin at position 0; what nobody trains is padding."""
    rows = []
    for ids, labels, positions in zip(batch["input_ids"], batch["labels"], batch["position_ids"], strict=True):
        starts = (positions == 0).nonzero().flatten().tolist()
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            assert positions[start:end].tolist() == list(range(end - start))
            rows.append((ids[start:end].tolist(), labels[start:end].tolist()))
    return [row for row in rows if set(row[1]) != {IGNORED_LABEL}]


@pytest.mark.parametrize("template", [None, SMOLLM2_TEMPLATE], ids=["tiny", "smollm2"])
def test_the_trainer_trains_the_answers_and_their_end_tokens_alone(
    base: Path, prepared: Path, tmp_path: Path, template: str | None
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = template or tokenizer.chat_template
    recipe = TrainingRecipe(batch_size=2)
    trainer = make_trainer(
        recipe, AutoModelForCausalLM.from_pretrained(base), load_splits(prepared, tokenizer, recipe),
        tokenizer=tokenizer, output=tmp_path, peft_config=lora_config(recipe), callbacks=[],
    )
    (batch,) = list(trainer.get_train_dataloader())

    end = end_token_id(tokenizer)
    rows = rows_of(batch)
    trained = [tokenizer.decode([label for label in labels if label not in {IGNORED_LABEL, end}]) for _, labels in rows]
    assert sorted(trained) == sorted(answer for _, answer in ROWS)
    for ids, labels in rows:
        kept = [label for label in labels if label != IGNORED_LABEL]
        assert labels[-1] == end
        assert kept.count(end) == 1
        assert ids[-len(kept) :] == kept, "an answer is all behind its prompt"


def test_every_token_of_every_text_is_trained_exactly_once(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    end = end_token_id(tokenizer)
    texts = ["def f():\n\treturn 1\n", f"a page about {tokenizer.eos_token} and more", "x"]
    for split in ("train", "validation"):
        pq.write_table(pa.table({"text": texts}), tmp_path / f"{split}.parquet")
    recipe = TrainingRecipe(objective="pretrain", batch_size=3, max_length=8, packing="off")
    splits = load_splits(tmp_path, tokenizer, recipe)
    trainer = make_trainer(
        recipe, AutoModelForCausalLM.from_pretrained(base), splits, tokenizer=tokenizer, output=tmp_path / "out",
        peft_config=lora_config(recipe), callbacks=[],
    )
    batches = list(trainer.get_train_dataloader())
    trained = sorted(int(label) for batch in batches for label in batch["labels"].flatten() if label != IGNORED_LABEL)
    stream = [token for text in texts for token in [*tokenizer(text, split_special_tokens=True)["input_ids"], end]]
    assert trained == sorted(stream)
    assert stream.count(end) == len(texts), "what looks like an end token in a text is none"
    for batch in batches:
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            read = ids[mask == 1]
            assert labels[0] == IGNORED_LABEL
            assert labels[1 : len(read)].tolist() == read[1:].tolist()


def test_a_dataset_of_another_kind_is_refused(base: Path, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"the dataset has no text: .*training.objective: pretrain; publish it"):
        load_splits(prepared, None, TrainingRecipe(objective="pretrain"))
    for split in ("train", "validation"):
        pq.write_table(pa.table({"text": ["a"]}), tmp_path / f"{split}.parquet")
    with pytest.raises(InvalidInputError, match=r"the dataset has no messages: .*training.objective: sft; publish it"):
        load_splits(tmp_path, None, TrainingRecipe())


def test_rows_without_room_for_an_answer_are_skipped_and_counted(base: Path, prepared: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    splits = load_splits(prepared, tokenizer, TrainingRecipe(max_length=25))
    assert (len(splits.train), len(splits.validation), splits.skipped) == (1, 1, 2)
    with pytest.raises(InvalidInputError, match="no train row has its answer within 8 tokens"):
        load_splits(prepared, tokenizer, TrainingRecipe(max_length=8))


def test_target_modules_must_exist() -> None:
    import torch

    model = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(2, 2), "norm": torch.nn.LayerNorm(2)})

    def check(names: Any) -> None:
        check_target_modules(TrainingRecipe.model_validate({"lora": {"target_modules": names}}), model)

    check("all-linear")
    check(["q_proj"])
    for names, said in ((["norm"], "no linear layer norm; it has q_proj"), (["proj"], "proj;"), ([], "an empty list")):
        with pytest.raises(InvalidInputError, match=said):
            check(names)
