"""One row: what is accepted, what it becomes, and what is said about a bad one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.data_ingest.examples import Example, RowError, parse_row
from shared.recipe import Objective

TEXT = st.text(min_size=1, max_size=20).filter(lambda text: text.strip() != "")


def parse(row: Any) -> Example:
    return parse_row(json.dumps(row).encode(), offset=0)


def problem(data: bytes, offset: int = 0, objective: Objective = "sft") -> RowError:
    with pytest.raises(RowError) as caught:
        parse_row(data, offset=offset, objective=objective)
    return caught.value


def judged(row: Any, objective: Objective) -> Example:
    return parse_row(json.dumps(row).encode(), offset=0, objective=objective)


def chat(*messages: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


def test_both_shapes_say_the_same() -> None:
    one = parse({"prompt": "2+2?", "completion": "4", "system": "Count."})
    two = parse(chat(("system", "Count."), ("user", "2+2?"), ("assistant", "4")))
    assert one.messages == two.messages == (("system", "Count."), ("user", "2+2?"), ("assistant", "4"))
    assert (one.id, one.group) == (two.id, two.group)
    assert len(one.id) == len(one.group) == 32


def test_system_is_optional_and_null_is_none() -> None:
    assert parse({"prompt": "a", "completion": "b", "system": None}).messages == (("user", "a"), ("assistant", "b"))


def test_white_space_stays_and_text_becomes_nfc() -> None:
    example = parse({"prompt": "  cafe\u0301\n\tx ", "completion": " a\u00a0b "})
    assert example.messages == (("user", "  caf\u00e9\n\tx "), ("assistant", " a\u00a0b "))
    assert parse({"prompt": "caf\u00e9", "completion": "x"}).id == parse({"prompt": "cafe\u0301", "completion": "x"}).id
    assert parse({"prompt": "a ", "completion": "x"}).id != parse({"prompt": "a", "completion": "x"}).id


def test_a_new_system_prompt_moves_no_row_to_another_group() -> None:
    before, after = parse({"prompt": "a", "completion": "x"}), parse({"prompt": "a", "completion": "x", "system": "s"})
    assert before.group == after.group
    assert before.id != after.id
    assert before.prompt_key != after.prompt_key


def test_unknown_keys_are_told() -> None:
    assert parse({"prompt": "a", "completion": "b", "source": 1}).ignored == ("source",)
    assert parse(chat(("user", "a"), ("assistant", "b")) | {"system": "s"}).ignored == ("system",)


@given(TEXT, TEXT, TEXT, TEXT)
def test_only_equal_rows_have_equal_ids(p1: str, a1: str, p2: str, a2: str) -> None:
    one, two = parse({"prompt": p1, "completion": a1}), parse({"prompt": p2, "completion": a2})
    assert (one.id == two.id) == (one.messages == two.messages)
    assert (one.group == two.group) == (one.messages[0] == two.messages[0])


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (b"{'prompt': 1}", "not_json", "not JSON: Expecting property name enclosed in double quotes at character 2"),
        (b'{"prompt": "a"', "not_json", "at character 15"),
        (b'{"a": ' + b"[" * 100_000, "not_json", "nested too deeply"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "not_json", "not JSON that can be read"),
        (b"[1]", "not_object", "it is a list"),
        (b'"text"', "not_object", "it is text"),
        (b"null", "not_object", "it is null"),
        (b"3", "not_object", "it is a number"),
        (b"{}", "unknown_shape", "its keys: none"),
        (b'{"text": "a", "label": 3}', "unknown_shape", 'its keys: "text", "label"'),
        (b'{"messages": [], "prompt": "a"}', "ambiguous", "keep one of them"),
        (b'{"messages": []}', "bad_messages", "not an empty list"),
        (b'{"messages": "hello"}', "bad_messages", "not text"),
        (b'{"messages": ["hello"]}', "bad_messages", "messages[0] must be an object"),
        (b'{"prompt": "a"}', "no_answer", '"completion" is missing'),
        (b'{"completion": "a"}', "empty_prompt", '"prompt" is missing'),
        (b'{"prompt": 3, "completion": "a"}', "not_text", "row.prompt must be text, not a number"),
        (b'{"prompt": "a", "completion": "  "}', "empty_answer", "remove the row or answer it"),
        (b'{"prompt": "\\n", "completion": "a"}', "empty_prompt", "remove the row or ask something"),
        (b'{"prompt": "\\ud83d", "completion": "a"}', "encoding", "half of a surrogate pair at character 1"),
    ],
)
def test_bad_rows_name_the_place_and_the_remedy(row: bytes, code: str, words: str) -> None:
    error = problem(row)
    assert error.code == code
    assert words in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (chat(("user", "a")), "no_answer", "the last message is the user's"),
        (chat(("human", "a"), ("assistant", "b")), "unknown_role", 'messages[0].role is "human"; use system, user,'),
        (chat(("system", "a"), ("assistant", "b")), "empty_prompt", "there is no user message"),
        (chat(("user", "a"), ("system", "s"), ("assistant", "b")), "bad_messages", "messages[1] is a system message"),
        (chat(("user", "a"), ("assistant", None)), "not_text", "messages[1].content must be text, not null"),
        (chat(("user", "a"), ("assistant", "")), "empty_answer", "the assistant's message 2 is empty"),
        (chat(("user", ["parts"]), ("assistant", "b")), "not_text", "messages[0].content must be text, not a list"),
    ],
)
def test_bad_conversations(row: dict[str, Any], code: str, words: str) -> None:
    error = problem(json.dumps(row).encode())
    assert error.code == code
    assert words in str(error)


def test_wrong_encoding_names_the_byte_in_the_row_and_in_the_file() -> None:
    row = '{"prompt": "café", "completion": "x"}'.encode("latin-1")
    error = problem(row, offset=1000)
    assert error.code == "encoding"
    assert "byte 16 of the row (byte 1015 of the file, counted from 0) is 0xE9" in str(error)
    assert "save the file as UTF-8" in str(error)


def test_a_preference_is_a_conversation_and_a_worse_answer() -> None:
    one = judged({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, "dpo")
    two = judged({**chat(("user", "2+2?"), ("assistant", "4")), "rejected": "5"}, "dpo")
    assert one.messages == two.messages == (("user", "2+2?"), ("assistant", "4"))
    assert one.rejected == two.rejected == "5"
    assert (one.id, one.ignored) == (two.id, ())
    other = judged({"prompt": "2+2?", "chosen": "4", "rejected": "6"}, "dpo")
    assert other.answer_key != one.answer_key, "the same answer against another one is no duplicate"
    assert other.group == one.group


def test_a_label_is_part_of_the_row() -> None:
    good, bad = (judged({"prompt": "2+2?", "completion": "4", "label": label}, "kto") for label in (True, False))
    assert (good.desired, bad.desired) == (True, False)
    assert good.id != bad.id
    assert parse({"prompt": "2+2?", "completion": "4", "label": True}).ignored == ("label",)


def test_a_row_says_its_task_where_the_pipeline_has_several() -> None:
    row = json.dumps({"prompt": "2+2?", "completion": "4", "task": "sums"}).encode()
    told, plain = parse_row(row, offset=0, by_task=True), parse_row(row, offset=0)
    assert (told.task, told.ignored) == ("sums", ())
    assert (plain.task, plain.ignored) == (None, ("task",))
    assert told.id == plain.id


@pytest.mark.parametrize(("task", "code", "words"), [
    (None, "no_task", 'such as "task": "intents"'), (3, "not_text", "row.task must be text"),
    ("a b", "bad_task", "letters, digits"), ("x" * 65, "bad_task", "at most 64"), ("", "bad_task", "letters"),
])
def test_a_task_that_names_no_metric_is_refused(task: Any, code: str, words: str) -> None:
    row = json.dumps({"prompt": "a", "completion": "b", "task": task}).encode()
    with pytest.raises(RowError, match=words) as caught:
        parse_row(row, offset=0, by_task=True)
    assert caught.value.code == code


@pytest.mark.parametrize(("row", "objective", "code", "words"), [
    ({"prompt": "a", "completion": "b"}, "dpo", "no_rejected", '"chosen": ..., "rejected"'),
    ({"prompt": "a", "completion": "b"}, "reward", "no_rejected", "objective is reward"),
    ({"prompt": "a", "chosen": "b", "rejected": "b"}, "dpo", "same_answers", "nothing is learned"),
    ({"prompt": "a", "chosen": "b", "rejected": " "}, "dpo", "empty_answer", "rejected"),
    ({"prompt": "a", "chosen": "b", "rejected": 3}, "dpo", "not_text", "rejected"),
    ({"prompt": "a", "completion": "b"}, "kto", "no_label", "true for a good answer"),
    ({"prompt": "a", "completion": "b", "label": 1}, "kto", "no_label", "not a number"),
])
def test_a_row_of_another_objective_is_refused(row: Any, objective: Objective, code: str, words: str) -> None:
    found = problem(json.dumps(row).encode(), objective=objective)
    assert found.code == code
    assert words in str(found)
