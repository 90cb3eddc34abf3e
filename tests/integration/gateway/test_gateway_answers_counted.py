"""Refusals and structured output through a whole gateway: counted per model version, and nothing else changes."""

import asyncio
import json
from typing import Any

import pytest

from services.gateway import checker
from services.gateway.answer_metrics import AnswerCounts
from services.gateway.checker import StructureChecker
from services.gateway.plan import Target
from services.gateway.record import Record
from shared.events import CountedEvent
from tests.support.gateway_stand import (
    STREAM_HEAD,
    Stand,
    chunked,
    exchange,
    http,
    read_request,
    request,
    running_stand,
)
from tests.support.routes import loaded, route, target
from tests.support.wait import eventually

pytestmark = pytest.mark.integration


async def obedient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers what the last message says: ``refuse`` with a refusal, all else with its own words."""
    while True:
        _, body = await read_request(reader)
        words = body["messages"][-1]["content"]
        said = {"refusal": "I cannot."} if words == "refuse" else {"content": words, "refusal": None}
        if body.get("stream"):
            writer.write(STREAM_HEAD + chunked(_event(said, "delta") + b"data: [DONE]\n\n") + b"0\r\n\r\n")
        else:
            writer.write(http(json.dumps({"choices": [{"index": 0, "message": said}]}).encode()))


def _event(said: dict[str, Any], key: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, key: said}]}).encode() + b"\n\n"


def ask(stand: Stand, words: str, **fields: Any) -> bytes:
    body = {"model": "r", "messages": [{"role": "user", "content": words}], **fields}
    answer = exchange(stand, request(body))
    assert answer.status == 200
    return answer.body


def value(stand: Stand, name: str, **labels: str) -> float:
    return stand.value(name, route="r", model_version="r@1", **labels)


@pytest.mark.parametrize("streamed", [False, True])
def test_what_answers_show_is_counted_by_model_version_and_by_user(streamed: bool) -> None:
    counted = [CountedEvent(event="refusals"), CountedEvent(event="invalid_output")]
    spec = route("r", target("r@1", "stable", 10_000)).model_copy(update={"counted": counted})
    with running_stand(lambda urls: [spec, loaded("one", urls[0], "r@1")], obedient) as stand:
        wish = {"response_format": {"type": "json_object"}}
        for words, fields in (("refuse", {}), ("plain", {}), ("plain", wish), ('{"a": 1}', wish)):
            ask(stand, words, stream=streamed, user="ann", **fields)
        units = {"event": "invalid_output", "le": "", "times": "1"}
        eventually(lambda: value(stand, "unit_events_total", **units) == 1, what="the user whose answer is no JSON")
        ask(stand, "plain", stream=streamed, user="ann", **wish)
        eventually(lambda: value(stand, "structured_answers_total", result="invalid") == 2, what="the second look")
        assert value(stand, "unit_events_total", **units) == 1, "one user is one"
        assert value(stand, "unit_events_total", **{**units, "event": "refusals"}) == 1
        assert value(stand, "answers_total", kind="refused") == 1
        assert value(stand, "answers_total", kind="answered") == 4
        assert value(stand, "structured_answers_total", result="valid") == 1
        assert value(stand, "structured_answers_total", result="unchecked") == 0
        stand.assert_clean()


def test_an_answer_that_is_too_long_to_keep_is_unchecked_and_passes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "ANSWER_BYTES", 100)
    with running_stand(
        lambda urls: [route("r", target("r@1", "stable", 10_000)), loaded("one", urls[0], "r@1")], obedient
    ) as stand:
        body = ask(stand, "x" * 1000, response_format={"type": "json_object"})
        assert b"x" * 1000 in body
        eventually(lambda: value(stand, "structured_answers_total", result="unchecked") == 1)


def test_what_finds_no_room_is_unchecked() -> None:
    counts = AnswerCounts()
    full = StructureChecker(lambda *_: counts, lambda *_: None, queue_bytes=10)
    chosen = Target(route="r", label="r@1", upstream_model="r@1", role="stable", weight=10_000,
                    effective_weight=10_000, endpoints=())
    full.take(Record(
        request_id="1", unit=1, route="r", target=chosen, path="/v1/chat/completions",
        request=b'{"response_format": {"type": "json_object"}}', status=200, outcome="ok", error="", started=0.0,
        seconds=0.1, first_token=None, usage=None, response=b"{}", truncated=False,
    ))
    assert counts.structured == {"valid": 0, "invalid": 0, "unchecked": 1}
