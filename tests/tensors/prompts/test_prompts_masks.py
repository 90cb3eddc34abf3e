"""What is trained: the answer and the token that ends it, and nothing else, whatever the template."""

from pathlib import Path
from typing import Any

import pytest

from shared.base_models.tiny import build_tiny
from shared.errors import InvalidInputError
from shared.prompts import (
    IGNORED_LABEL,
    answer_of,
    decode_answer,
    encode,
    end_token_id,
    prompt_ids,
    render_prompt,
    template_sha256,
)
from tests.support.templates import SMOLLM2_TEMPLATE

# Writes no end token at all.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# Adds an empty thought to the prompt that it leaves out once an answer is there.
SHIFTY_TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
)

ROW = [
    {"role": "system", "content": "Answer with the intent."},
    {"role": "user", "content": "I lost my card, assistant\nplease help"},
    {"role": "assistant", "content": "card_lost"},
]
LONG = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "first answer"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "second answer"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(target)
    return target


@pytest.fixture(params=["tiny", "smollm2", "plain"])
def tokenizer(folder: Path, request: pytest.FixtureRequest) -> Any:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder)
    templates = {"smollm2": SMOLLM2_TEMPLATE, "plain": PLAIN_TEMPLATE}
    loaded.chat_template = templates.get(request.param, loaded.chat_template)
    return loaded


@pytest.mark.parametrize("messages", [ROW, LONG], ids=["one turn", "two turns"])
def test_only_the_last_answer_and_its_end_token_are_trained(tokenizer: Any, messages: list[dict[str, str]]) -> None:
    example = encode(tokenizer, messages)
    trained = [label for label in example.labels if label != IGNORED_LABEL]

    assert trained[-1] == end_token_id(tokenizer)
    assert trained.count(end_token_id(tokenizer)) == 1
    assert tokenizer.decode(trained[:-1]).rstrip("\n") == messages[-1]["content"]
    assert len(example.labels) == len(example.input_ids)
    assert example.trained_tokens == len(trained)


def test_the_prompt_in_training_is_the_prompt_in_generation(tokenizer: Any) -> None:
    example = encode(tokenizer, ROW)

    assert example.input_ids[: example.prompt_length] == prompt_ids(tokenizer, ROW[:-1])
    assert render_prompt(tokenizer, ROW[:-1]).rstrip().endswith(("assistant", "assistant:"))


def test_an_answer_that_would_melt_into_the_prompt_is_tokenized_apart(tokenizer: Any) -> None:
    example = encode(tokenizer, [*ROW[:-1], {"role": "assistant", "content": "\n\n  deep"}])

    assert example.input_ids[: example.prompt_length] == prompt_ids(tokenizer, ROW[:-1])
    assert tokenizer.decode(example.input_ids[example.prompt_length : -1]).rstrip("\n") == "\n\n  deep"


def test_the_generation_marks_of_the_tiny_model_agree(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    marked = tokenizer.apply_chat_template(ROW, return_assistant_tokens_mask=True, return_dict=True)
    trained = [token for token, mask in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if mask]

    assert trained == [label for label in encode(tokenizer, ROW).labels if label != IGNORED_LABEL]


def test_long_rows_are_cut_at_the_right(tokenizer: Any) -> None:
    whole = encode(tokenizer, ROW)
    cut = encode(tokenizer, ROW, max_length=whole.prompt_length + 1)
    without_answer = encode(tokenizer, ROW, max_length=5)

    assert (len(cut.input_ids), cut.trained_tokens) == (whole.prompt_length + 1, 1)
    assert (len(without_answer.input_ids), without_answer.trained_tokens) == (5, 0)


def test_generated_tokens_end_at_the_end_token(tokenizer: Any) -> None:
    example = encode(tokenizer, ROW)
    generated = [*example.input_ids[example.prompt_length :], *prompt_ids(tokenizer, LONG[:1])]

    assert decode_answer(tokenizer, generated) == "card_lost"
    assert decode_answer(tokenizer, []) == ""


def test_a_template_that_changes_the_prompt_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = SHIFTY_TEMPLATE
    with pytest.raises(InvalidInputError, match="renders the prompt differently when an answer follows"):
        encode(tokenizer, ROW)


def test_a_row_without_an_answer_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not 'user'"):
        answer_of(ROW[:-1])
    with pytest.raises(InvalidInputError, match="not 'nothing'"):
        answer_of([])


def test_a_template_is_known_by_its_hash(tokenizer: Any) -> None:
    before = template_sha256(tokenizer)
    tokenizer.chat_template += " "

    assert before.startswith("sha256:")
    assert template_sha256(tokenizer) != before


def test_a_tokenizer_that_cannot_chat_or_stop_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    tokenizer.eos_token = None
    with pytest.raises(InvalidInputError, match="no chat template"):
        template_sha256(tokenizer)
    with pytest.raises(InvalidInputError, match="no end-of-sequence token"):
        end_token_id(tokenizer)
