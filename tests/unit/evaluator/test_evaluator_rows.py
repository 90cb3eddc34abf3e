"""Which rows are used, and what becomes of those that no model can read."""

from typing import Any

import pytest

from services.evaluator.job.rows import choose, prepare
from shared.errors import InvalidInputError


class LetterTokenizer:
    """One token a letter, `<` and `>` around each turn. Small enough to count by hand."""

    eos_token_id = ord(">")

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool = False
    ) -> str:
        text = "".join(f"<{message['role'][0]}{message['content']}>" for message in messages)
        return text + ("<a" if add_generation_prompt else "")

    bos_token_id: int | None = None

    def __call__(self, text: Any, **options: bool) -> dict[str, Any]:
        if isinstance(text, str):
            return {"input_ids": [ord(letter) for letter in text]}
        assert options["split_special_tokens"]
        first = [] if self.bos_token_id is None else [self.bos_token_id]
        return {"input_ids": [[*first, *map(ord, item)] for item in text]}


def row(identity: str, question: str = "q", answer: str = "yes") -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": identity, "messages": messages}


def test_the_same_rows_are_chosen_in_whatever_order_they_come() -> None:
    rows = [row(f"row-{number}") for number in range(50)]
    chosen = choose(rows, 10)
    assert choose(rows[::-1], 10) == chosen
    assert len({item["id"] for item in chosen}) == 10


def test_new_rows_replace_few_of_those_chosen_before() -> None:
    rows = [row(f"row-{number}") for number in range(110)]
    before, after = choose(rows[:100], 20), choose(rows, 20)
    assert sum(item in before for item in after) >= 15
    assert choose(rows[:5], 20) == sorted(choose(rows[:5], 20), key=choose(rows[:5], 5).index)


def test_a_row_becomes_prompt_and_answer_with_its_end() -> None:
    (made,) = prepare(LetterTokenizer(), [row("one")], context=100, max_new_tokens=5)
    assert made.example is not None
    text = "".join(map(chr, made.example.input_ids))
    assert (text[: made.example.prompt_length], text[made.example.prompt_length :]) == ("<uq><a", "yes>")


def test_a_row_that_does_not_fit_the_context_is_noted_and_the_others_stay() -> None:
    rows = [row("long", question="q" * 50), row("short")]
    long, short = prepare(LetterTokenizer(), rows, context=20, max_new_tokens=5)
    assert long.example is None
    assert long.note == "needs 60 tokens with its answer, and the model has a context of 20"
    assert short.example is not None


def test_a_row_without_an_answer_is_named() -> None:
    broken = {"id": "row-7", "messages": [{"role": "user", "content": "hello"}]}
    with pytest.raises(InvalidInputError, match="row row-7: the last message"):
        prepare(LetterTokenizer(), [broken], context=100, max_new_tokens=5)


@pytest.mark.parametrize("first", [None, 7])
def test_a_text_is_read_in_windows_that_predict_each_of_its_tokens_once(first: int | None) -> None:
    tokenizer = LetterTokenizer()
    tokenizer.bos_token_id = first
    (made,) = prepare(tokenizer, [{"id": "t", "text": "a text"}], context=4, max_new_tokens=5)
    start = first or ord(">")
    assert made.windows == [[start, *map(ord, "a t")], [ord("t"), *map(ord, "ext")]]
    assert made.probe is not None
    assert (made.probe.input_ids, made.probe.prompt_length) == (made.windows[0], 3)
