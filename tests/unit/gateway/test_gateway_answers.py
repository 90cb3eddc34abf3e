"""What answers show by themselves: refusals, and structured output that is not what was asked for."""

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.gateway.answer_metrics import AnswerMetrics
from services.gateway.answers import Structured, check, refuses

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def asked(kind: str = "json_object", schema: Any = None) -> bytes:
    wish: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        wish["json_schema"] = {"name": "x", "schema": schema}
    return json.dumps({"model": "r", "messages": [], "response_format": wish}).encode()


def whole(*texts: str | None, **message: Any) -> bytes:
    choices = [{"index": i, "message": {"role": "assistant", "content": t, **message}} for i, t in enumerate(texts)]
    return json.dumps({"id": "x", "choices": choices}).encode()


def stream(*pieces: tuple[int, str]) -> bytes:
    events = [{"choices": [{"index": index, "delta": {"content": text}}]} for index, text in pieces]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n"


@pytest.mark.parametrize(("part", "refused"), [
    (whole(None, refusal="I cannot help with that."), True),
    (b'data: {"choices": [{"index": 0, "delta": {"refusal":"I"}}]}\n\n', True),
    (b'{"choices":[{"message":{"content":""},"finish_reason" : "content_filter"}]}', True),
    (whole("hello", refusal=None), False),
    (whole("hello", refusal=""), False),
    (whole('it said "refusal": "no" and "finish_reason": "content_filter"'), False),
    (b'{"choices":[{"message":{"content":"content_filter"},"finish_reason":"stop"}]}', False),
], ids=["refusal", "in a stream", "content filter", "null", "empty", "only quoted", "only a word"])
def test_a_refusal_is_what_the_api_calls_one(part: bytes, refused: bool) -> None:
    assert refuses(part) is refused


@pytest.mark.parametrize(("request_", "response", "result"), [
    (asked(), whole('{"a": 1}'), "valid"),
    (asked(), whole('[1]'), "invalid"),
    (asked(), whole('{"a": 1'), "invalid"),
    (asked(), whole('{"a": NaN}'), "invalid"),
    (asked(), whole(""), "invalid"),
    (asked(), whole('{"a": 1}', "sorry"), "invalid"),
    (asked(), stream((0, '{"a"'), (1, "{"), (0, ": 1}"), (1, "}")), "valid"),
    (asked(), stream((0, '{"a"'), (0, ": 1")), "invalid"),
    (asked("json_schema", SCHEMA), whole('{"n": 1}'), "valid"),
    (asked("json_schema", SCHEMA), whole('{"n": "1"}'), "invalid"),
    (asked("json_schema", SCHEMA), whole('{"n": 1, "m": 2}'), "invalid"),
    (asked("json_schema", {"type": "array"}), whole("[]"), "valid"),
    (asked("text"), whole("anything"), None),
    (b'{"messages": [{"content": "\\"response_format\\""}]}', whole("anything"), None),
    (asked(), whole(None, refusal="no"), "unchecked"),
    (asked(), whole(None, tool_calls=[{"id": "1"}]), "unchecked"),
    (asked("json_schema"), whole("{}"), "unchecked"),
    (asked("json_schema", {"type": "nonsense"}), whole("{}"), "unchecked"),
    (asked("json_schema", {"$ref": "http://127.0.0.1:9/secret"}), whole("{}"), "unchecked"),
    (asked("json_schema", {"pattern": "(?=a)b"}), whole('"b"'), "unchecked"),
    (asked(), b"not an answer", "unchecked"),
    (asked(), b'{"choices": 3}', "unchecked"),
    (asked(), b'{"choices": [3]}', "unchecked"),
])
def test_structure_is_checked_where_it_was_asked_for(
    request_: bytes, response: bytes, result: Structured | None
) -> None:
    assert check(request_, response) == result


def test_a_pattern_of_a_client_cannot_hang_the_checker() -> None:
    evil = asked("json_schema", {"type": "string", "pattern": "^(a+)+$"})
    assert check(evil, whole(json.dumps("a" * 50_000 + "!"))) == "invalid"


def test_every_series_is_there_at_0_and_goes_with_its_version() -> None:
    registry = CollectorRegistry()
    metrics = AnswerMetrics(registry)
    counts = metrics.of("r", "r@1")
    labels = {"route": "r", "model_version": "r@1"}
    answers = "tuneloop_gateway_answers_total"
    assert registry.get_sample_value(answers, {**labels, "kind": "refused"}) == 0
    counts.given(refused=True)
    counts.given(refused=False)
    counts.checked("invalid")
    assert registry.get_sample_value(answers, {**labels, "kind": "refused"}) == 1
    assert registry.get_sample_value(answers, {**labels, "kind": "answered"}) == 1
    structured = "tuneloop_gateway_structured_answers_total"
    assert registry.get_sample_value(structured, {**labels, "result": "invalid"}) == 1
    assert registry.get_sample_value(structured, {**labels, "result": "valid"}) == 0
    metrics.remove("r", "r@1")
    assert registry.get_sample_value(answers, {**labels, "kind": "refused"}) is None
