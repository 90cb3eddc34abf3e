"""Shadow copies: what they tell about a version, and that nothing that a shadow does reaches anybody."""

import asyncio
import json
from contextlib import AbstractContextManager
from typing import Any

import pytest

from shared.events import Payload
from shared.gateway_metrics import PAIR_RESULTS, PAIRED
from tests.support.gateway_stand import (
    STREAM_HEAD,
    Answer,
    Handler,
    Stand,
    chunked,
    exchange,
    http,
    read_request,
    request,
    running_stand,
)
from tests.support.routes import canary, loaded
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

BODY = {"model": "r", "messages": [{"role": "user", "content": "hello"}], "seed": 7}
OUTCOMES = ("ok", "error", "rejected", "timeout", "dropped", "unclear")


async def good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers; a stream where one is asked for."""
    while True:
        _, body = await read_request(reader)
        if body.get("stream"):
            event = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
            writer.write(STREAM_HEAD + chunked(event + b"data: [DONE]\n\n") + b"0\r\n\r\n")
        else:
            writer.write(http(b'{"choices": []}'))


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await reader.read()


async def hang_in_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(STREAM_HEAD)
    await reader.read()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.transport.abort()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"\x00\x01 no HTTP at all\r\n\r\n")
    await reader.read()


async def no_done(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(STREAM_HEAD + chunked(b'data: {"choices": []}\n\n') + b"0\r\n\r\n")


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(STREAM_HEAD)
    while True:
        writer.write(chunked(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'))
        await writer.drain()
        await asyncio.sleep(0.01)


def status(line: str) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(b"{}", status=line))

    return answer


class Scribe:
    """A model server that notes what it was asked, and answers as another one does."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, dict[str, Any]]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.seen.append(await read_request(reader))
            writer.write(http(b'{"choices": []}'))


def shadowed(*servers: Handler, share: float = 1.0, weight: int = 0, **settings: Any) -> AbstractContextManager[Stand]:
    """A route whose stable version is on the first server and whose shadow is on the others."""
    def facts(urls: list[str]) -> list[Payload]:
        spec = canary("r", "r@1", "r@2", weight)
        stable, candidate = spec.targets
        copied = candidate.model_copy(update={"shadow_share": share})
        return [spec.model_copy(update={"targets": [stable, copied]}), loaded("primary", urls[0], "r@1"),
                *(loaded(f"shadow-{number}", url, "r@2") for number, url in enumerate(urls[1:]))]

    return running_stand(facts, *servers, **settings)


def ask(stand: Stand, **fields: Any) -> Answer:
    return exchange(stand, request({**BODY, **fields}, "x-request-id: id-1"))


def outcomes(stand: Stand) -> dict[str, float]:
    found = {name: stand.value("shadow_total", route="r", model_version="r@2", outcome=name) for name in OUTCOMES}
    return {name: count for name, count in found.items() if count}


def counted(stand: Stand, label: str) -> float:
    return sum(stand.value("requests_total", route="r", model_version=label, outcome=name)
               for name in ("ok", "error", "rejected"))


def becomes(stand: Stand, expected: dict[str, float]) -> None:
    eventually(lambda: outcomes(stand) == expected, what=f"{expected}, but it is {outcomes(stand)}")


def test_a_copy_is_the_same_request_for_another_model_and_counts_as_nothing_else() -> None:
    scribe = Scribe()
    with shadowed(good, scribe) as stand:
        trace = ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: team=x")
        answer = exchange(stand, request(BODY, "x-request-id: id-1", "accept: a/b", *trace))
        assert (answer.status, answer.headers["x-tuneloop-model-version"]) == (200, "r@1")
        becomes(stand, {"ok": 1})
        [(head, body)] = scribe.seen
        assert body == {**BODY, "model": "r@2"}
        for line in ("x-request-id: id-1.shadow", *trace):
            assert f"{line}\r\n".encode() in head
        assert (counted(stand, "r@1"), counted(stand, "r@2")) == (1, 0)
        assert stand.value("shadow_duration_seconds_count", route="r", model_version="r@2") == 1
        assert stand.value("request_duration_seconds_count", route="r", model_version="r@2") == 0
        assert stand.value("units_seen", route="r", model_version="r@2") == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("server", "outcome"), [
    (good, "ok"), (hang, "timeout"), (reset, "error"), (garbage, "error"), (status("500 Oh"), "error"),
    (status("302 Away"), "error"), (status("404 Gone"), "error"), (status("429 Busy"), "error"),
    (status("400 Bad"), "rejected"),
])
def test_nothing_that_a_shadow_does_reaches_the_client(server: Handler, outcome: str, stream: bool) -> None:
    with shadowed(good, server, shadow_timeout_seconds=1) as stand:
        for _ in range(2):
            answer = ask(stand, stream=stream)
            assert (answer.status, answer.headers["x-tuneloop-model-version"]) == (200, "r@1")
        becomes(stand, {outcome: 2})
        assert (counted(stand, "r@1"), counted(stand, "r@2")) == (2, 0)
        assert stand.value("requests_total", route="r", model_version="r@1", outcome="ok") == 2
        stand.call(stand.gateway.features.shadow.close)
        stand.assert_clean()


@pytest.mark.parametrize(("server", "outcome"), [
    (hang_in_stream, "timeout"), (endless, "timeout"), (no_done, "error"),
])
def test_a_stream_must_end_as_it_should_and_in_time(server: Handler, outcome: str) -> None:
    with shadowed(good, server, shadow_timeout_seconds=1) as stand:
        assert ask(stand, stream=True).status == 200
        becomes(stand, {outcome: 1})
        assert stand.value("shadow_duration_seconds_count", route="r", model_version="r@2") == 0
        stand.assert_clean()


def test_a_shadow_that_takes_no_connections_is_an_error_and_no_other_replica_is_asked() -> None:
    scribe = Scribe()
    with shadowed(good, status("404 Gone"), scribe) as stand:
        ask(stand)
        ask(stand)
        eventually(lambda: sum(outcomes(stand).values()) == 2)
        assert outcomes(stand) == {"error": 1, "ok": 1}
        assert len(scribe.seen) == 1, "the copy that failed is not repeated"


def test_copies_beyond_the_limit_are_dropped_while_clients_are_served() -> None:
    with shadowed(good, hang, shadow_max_in_flight=2, shadow_timeout_seconds=30) as stand:
        for _ in range(20):
            assert ask(stand).status == 200
        becomes(stand, {"dropped": 18})
        assert len(stand.gateway.features.shadow.copies) == 2
        stand.call(stand.gateway.features.shadow.close)
        becomes(stand, {"dropped": 18, "timeout": 2})
        stand.assert_clean()


@pytest.mark.parametrize("primary", [status("400 Bad"), status("404 Gone")])
def test_what_was_the_clients_fault_or_reached_no_model_is_not_copied(primary: Handler) -> None:
    scribe = Scribe()
    with shadowed(primary, scribe) as stand:
        assert ask(stand).status >= 400
        stand.assert_clean()
        assert (outcomes(stand), scribe.seen) == ({}, [])


def pairs(stand: Stand) -> dict[tuple[str, str], float]:
    found = {(metric, result): stand.value("shadow_pairs_total", route="r", model_version="r@2", metric=metric,
                                           result=result) for metric in PAIRED for result in PAIR_RESULTS}
    return {pair: count for pair, count in found.items() if count}


def saying(content: str) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            message = {"role": "assistant", "content": content}
            writer.write(http(json.dumps({"choices": [{"index": 0, "message": message}]}).encode()))

    return answer


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(http(b'{"choices": [{"index": 0, "message": {"refusal": "no"}}]}'))


@pytest.mark.parametrize(("primary", "shadow", "expected"), [
    (good, status("500 Oh"), {("errors", "copy_worse")}),
    (status("500 Oh"), good, {("errors", "primary_worse")}),
    (reset, status("500 Oh"), {("errors", "alike")}),
    (status("500 Oh"), status("400 Bad"), set()),
    (good, status("404 Gone"), set()),
    (good, hang, {("errors", "copy_worse")}),
    (good, refuse, {("errors", "alike"), ("refusals", "copy_worse")}),
    (saying("{}"), saying("hm"), {("errors", "alike"), ("refusals", "alike"), ("invalid_output", "copy_worse")}),
])
def test_the_two_answers_to_a_request_are_compared(
    primary: Handler, shadow: Handler, expected: set[tuple[str, str]]
) -> None:
    with shadowed(primary, shadow, shadow_timeout_seconds=1) as stand:
        ask(stand, response_format={"type": "json_object"})
        eventually(lambda: sum(outcomes(stand).values()) == 1, what="the copy's end")
        eventually(lambda: pairs(stand) == dict.fromkeys(expected, 1), what=f"{expected}: {pairs(stand)}")
        stand.call(stand.gateway.features.shadow.close)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.5, 50), (1.0, 100)])
def test_the_share_is_drawn_by_the_requests_id(share: float, expected: int) -> None:
    scribe = Scribe()
    with shadowed(good, scribe, share=share) as stand:
        for number in range(100):
            assert exchange(stand, request(BODY, f"x-request-id: id-{number}")).status == 200
        eventually(lambda: stand.call(lambda: not stand.gateway.features.shadow.copies))
        assert abs(len(scribe.seen) - expected) <= (15 if expected == 50 else 0)


def test_a_candidate_with_a_weight_gets_no_copy_of_what_it_answers() -> None:
    scribe = Scribe()
    with shadowed(good, scribe, weight=10_000) as stand:
        assert ask(stand).headers["x-tuneloop-model-version"] == "r@2"
        assert stand.call(lambda: (len(scribe.seen), outcomes(stand))) == (1, {})


def test_a_shadow_that_no_replica_has_confirmed_gets_none() -> None:
    with shadowed(good) as stand:
        assert ask(stand).status == 200
        assert stand.call(lambda: outcomes(stand)) == {}


def test_a_primary_is_as_fast_beside_a_shadow_that_hangs() -> None:
    """Not a benchmark: a copy that were waited for would take its whole timeout."""
    with shadowed(good, hang, shadow_timeout_seconds=30, shadow_max_in_flight=1000) as stand:
        for _ in range(50):
            ask(stand)
        total = stand.value("request_duration_seconds_sum", route="r", model_version="r@1")
        assert total < 10
        assert stand.call(lambda: len(stand.gateway.features.shadow.copies)) == 50
        stand.call(stand.gateway.features.shadow.close)
