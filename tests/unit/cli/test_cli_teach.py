"""A teacher's answers as rows: what it is asked, what is left out, and what is said where it does not answer."""

import json
from typing import Any

import httpx
import pytest

from services.cli.errors import CliError
from services.cli.teaching import Rule, Teacher, questions
from shared.clock import VirtualClock

RULE = Rule(model="large", temperature=0.7, max_tokens=32, seed=17)
LINES = [
    '{"prompt": "2+2?", "system": "Count.", "completion": "five", "task": "sums"}\n', "\n",
    '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "old"}]}\n',
]


def taught(answers: Any, lines: list[str] = LINES) -> tuple[list[Any], list[dict[str, Any]]]:
    """The rows, and the requests that the teacher got."""
    seen: list[dict[str, Any]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://teacher/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer secret"
        seen.append(json.loads(request.content))
        return answers(seen[-1], len(seen))  # type: ignore[no-any-return]

    transport = httpx.MockTransport(handle)
    with Teacher("http://teacher/v1/", RULE, VirtualClock(), key="secret", transport=transport) as teacher:
        return [row for _, row in teacher.teach(questions(lines, source="file"), 1)], seen


def said(text: str, reason: str = "stop") -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": {"content": text}, "finish_reason": reason}]})


def test_each_question_is_asked_with_a_seed_of_its_own_and_becomes_a_row_that_says_who_answered() -> None:
    rows, seen = taught(lambda body, _: said(f"answer {body['seed']}"))
    assert [body["seed"] for body in seen] == [18, 20], "blank lines are rows of no number that moves"
    assert seen[0] == {
        "model": "large", "temperature": 0.7, "max_tokens": 32, "seed": 18,
        "messages": [{"role": "system", "content": "Count."}, {"role": "user", "content": "2+2?"}],
    }
    assert rows[0] == {
        "messages": [*seen[0]["messages"], {"role": "assistant", "content": "answer 18"}], "task": "sums",
        "teacher": "large, temperature 0.7, seed 17",
    }
    assert [message["content"] for message in rows[1]["messages"]] == ["Hi", "answer 20"]


def test_answers_that_are_cut_off_or_empty_are_left_out() -> None:
    rows, _ = taught(lambda _, count: said("a beginning", "length") if count == 1 else said(" "))
    assert rows == [None, None]


def test_a_busy_teacher_is_asked_again() -> None:
    rows, seen = taught(lambda _, count: httpx.Response(503) if count < 3 else said("late"))
    assert [row["messages"][-1]["content"] for row in rows] == ["late", "late"]
    assert [body["seed"] for body in seen] == [18, 18, 18, 20]


@pytest.mark.parametrize(("answer", "words"), [
    (httpx.Response(503, text="busy"), "row 1: HTTP 503: busy. Go on with --skip 0"),
    (httpx.Response(404, text="no model large"), "row 1: HTTP 404: no model large"),
    (httpx.Response(200, text="<html>"), "not as OpenAI's chat API does: <html>"),
])
def test_a_teacher_that_does_not_answer_ends_it_with_where_to_go_on(answer: httpx.Response, words: str) -> None:
    with pytest.raises(CliError, match=words):
        taught(lambda _body, _count: answer)


@pytest.mark.parametrize("line", [
    "no json", "[]", '{"prompt": 3}', '{"prompt": " "}', '{"text": "a"}', '{"messages": []}',
    '{"messages": [{"role": "assistant", "content": "a"}]}', '{"messages": [{"role": "system", "content": "a"}]}',
])
def test_a_row_that_asks_nothing_is_named(line: str) -> None:
    with pytest.raises(CliError, match="file, row 1: asks nothing"):
        list(questions([line], source="file"))
