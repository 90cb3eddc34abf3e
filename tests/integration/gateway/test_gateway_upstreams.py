"""Model servers that refuse, hang, die, lie or never end; and what is known of each exchange afterwards."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from services.gateway.plan import Target
from services.gateway.record import Record
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
from tests.support.routes import loaded, route, target
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

BODY = {"model": "r", "messages": []}
STREAMED = {**BODY, "stream": True}
EVENT = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
USAGE = {"prompt_tokens": 3, "completion_tokens": 1}
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def once(script: Script) -> Handler:
    """Read a request, follow the script, close."""
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await script(reader, writer)
    return handler


def says(*parts: bytes) -> Handler:
    """Answer these bytes, in as many writes, and close."""
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
    return once(script)


def resets(*parts: bytes) -> Handler:
    """The same, but with a reset of the connection."""
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if parts:
            # A reset may overtake what was sent before; the gateway's acknowledgement cannot be seen from here.
            await asyncio.sleep(0.1)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    return once(script)


async def good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(http(json.dumps({"usage": USAGE}).encode()))


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await reader.read()


async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD + chunked(EVENT))
    await reader.read()


class Recorder:
    """An observer that keeps everything, and some bytes of each answer."""

    def __init__(self, keep: int = 0) -> None:
        self.records: list[Record] = []
        self._keep = keep

    def wants(self, request_id: str, target: Target, request: bytes) -> int | None:
        return self._keep

    def answered(self, request_id: str, target: Target, unit: int, begun: float) -> None: ...

    def finished(self, record: Record) -> None:
        self.records.append(record)


@contextmanager
def before(*handlers: Handler, keep: int = 0, **settings: Any) -> Iterator[tuple[Stand, Recorder]]:
    """A gateway before replicas that all confirmed r@1; at the end nothing of any request is left."""
    recorder = Recorder(keep)
    names = [f"replica-{number}" for number in range(len(handlers))]
    with running_stand(
        lambda urls: [route("r", target("r@1", "stable", 10_000)),
                      *(loaded(name, url, "r@1") for name, url in zip(names, urls, strict=True))],
        *handlers, observer=recorder,
        **{"max_response_bytes": 10_000, **settings},
    ) as stand:
        yield stand, recorder
        stand.assert_clean()


def outcomes(stand: Stand) -> dict[str, float]:
    return {name: stand.value("requests_total", route="r", model_version="r@1", outcome=name)
            for name in ("ok", "error", "rejected")}


ONE_ERROR = {"ok": 0, "error": 1, "rejected": 0}


def _patience(code: str) -> dict[str, Any]:
    """Little where a timeout is expected; nowhere else may a busy machine make one."""
    return {"read_timeout_seconds": 1.0} if code == "upstream_timeout" else {}


@pytest.mark.parametrize(
    ("handler", "status", "code"),
    [
        (hangs, 504, "upstream_timeout"),
        (says(), 502, "upstream_failed"),
        (resets(), 502, "upstream_failed"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), 502, "upstream_failed"),
        (says(b"\x00\xff" * 500), 502, "upstream_failed"),
        (says(b"HTTP/1.1 200 OK\r\ncontent-type: a\nb: c\r\n\r\n"), 502, "upstream_failed"),
        (says(b"HTTP/1.1 200 OK\r\ncontent-type: a\x00b\r\ncontent-length: 0\r\n\r\n"), 502, "upstream_failed"),
        (says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"), 502, "upstream_failed"),
        (says(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello"), 502, "upstream_failed"),
        (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), 502, "upstream_failed"),
        (says(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 500_000), 502, "upstream_failed"),
        (says(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5_000 + b"content-length: 0\r\n\r\n"), 502, "upstream_failed"),
        (says(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"), 502, "upstream_failed"),
        (says(http(b"x" * 10_001)), 502, "upstream_failed"),
        (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"x" * 6_000) * 2), 502,
         "upstream_failed"),
        (says(http(b"", status="307 Temporary Redirect", extra="location: /x\r\n")), 502, "upstream_failed"),
    ],
)
def test_what_is_no_answer_is_an_error(handler: Handler, status: int, code: str) -> None:
    with before(handler, **_patience(code)) as (stand, recorder):
        answer = exchange(stand, request(BODY))
        assert (answer.status, answer.code) == (status, code)
        assert answer.headers["x-tuneloop-model-version"] == "r@1"
        assert outcomes(stand) == ONE_ERROR
        assert [(r.status, r.outcome, r.error) for r in recorder.records] == [(status, "error", code)]


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (resets(STREAM_HEAD, chunked(EVENT)), "upstream_failed"),
        (says(STREAM_HEAD, chunked(EVENT)), "upstream_failed"),
        (says(STREAM_HEAD, chunked(EVENT), b"garbage\r\n"), "upstream_failed"),
        (says(STREAM_HEAD, chunked(EVENT), b"0\r\n\r\n"), "upstream_failed"),
        (says(STREAM_HEAD, chunked(EVENT), chunked(b"data: " + b"x" * 2_000_000)), "upstream_failed"),
        (once(stalls), "upstream_timeout"),
    ],
)
def test_a_stream_that_breaks_ends_with_an_error_event(handler: Handler, code: str) -> None:
    with before(handler, **_patience(code)) as (stand, recorder):
        answer = exchange(stand, request(STREAMED))
        assert answer.status == 200
        assert answer.body.startswith(EVENT)
        rest = answer.body[len(EVENT):]
        assert rest.endswith(b"\n\n")
        assert json.loads(rest.removeprefix(b"data: "))["error"]["code"] == code
        assert outcomes(stand) == ONE_ERROR
        assert [(r.status, r.error) for r in recorder.records] == [(200, code)]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"{}"),
        b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        http(b"{}") + b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nunasked-for",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\ntrailer: t\r\n\r\n",
    ],
)
def test_unusual_answers_are_answers(answer: bytes) -> None:
    with before(says(answer)) as (stand, _):
        for _ in range(3):
            found = exchange(stand, request(BODY))
            assert (found.status, found.body) == (200, b"{}")
        assert outcomes(stand) == {"ok": 3, "error": 0, "rejected": 0}


@pytest.mark.parametrize("size", [1, 3, 50])
def test_a_stream_cut_anywhere_is_the_same_stream(size: int) -> None:
    whole = STREAM_HEAD + chunked(EVENT) * 2 + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    with before(says(*pieces)) as (stand, _):
        assert exchange(stand, request(STREAMED)).body == EVENT * 2 + b"data: [DONE]\n\n"
        assert outcomes(stand) == {"ok": 1, "error": 0, "rejected": 0}


def test_a_connection_that_its_server_closed_is_not_used_again() -> None:
    """A server that closes after each answer without saying so costs no request, and nothing is sent twice."""
    asked: list[int] = []

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.append(1)
        writer.write(http(b"{}"))

    with before(closes) as (stand, _):
        for _ in range(50):
            assert exchange(stand, request(BODY)).status == 200
        assert len(asked) == 50


def test_a_request_that_was_read_is_never_sent_again() -> None:
    """The server takes the second request on a kept connection, and dies: its work may have been done."""
    asked: list[int] = []

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.append(1)
        writer.write(http(b"{}"))
        await read_request(reader)
        asked.append(2)

    with before(dies, dies) as (stand, _):
        statuses = [exchange(stand, request(BODY)).status for _ in range(4)]
        assert statuses == [200, 200, 502, 502]
        assert asked == [1, 1, 2, 2]


def test_connections_are_kept_and_let_go() -> None:
    with before(good) as (stand, _):
        for _ in range(20):
            exchange(stand, request(BODY))
        assert stand.call(lambda: len(stand.gateway.pool.open)) == 1
        eventually(lambda: not stand.gateway.pool.open, what="letting go of an idle connection")


@pytest.mark.parametrize("bad", [says(http(b"{}", status="500 Oops")), hangs, resets()])
def test_a_replica_whose_answers_fail_is_skipped_and_comes_back(bad: Handler) -> None:
    sick, asked = [True], [0]

    async def moody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked[0] += 1
        await (bad if sick[0] else good)(reader, writer)

    def ask(count: int) -> list[bool]:
        return [exchange(stand, request(BODY)).status == 200 for _ in range(count)]

    with before(moody, good, read_timeout_seconds=1, eject_seconds=4, eject_after_failures=2) as (stand, _):
        assert ask(4).count(False) == 2
        assert stand.value("replica_ejections_total", replica="replica-0") == 1
        asked[0] = 0
        assert ask(4) == [True] * 4
        assert asked[0] == 0
        sick[0] = False
        eventually(lambda: ask(1) and asked[0] > 0, what="the probe")
        assert ask(4) == [True] * 4


def test_what_is_known_of_an_exchange() -> None:
    answer = http(json.dumps({"usage": USAGE}).encode())
    headers = ("x-request-id: id-1", "x-tuneloop-unit: anna")
    with before(says(answer), keep=5) as (stand, recorder):
        message = request(BODY, *headers)
        found = exchange(stand, message)
        eventually(lambda: recorder.records)
        record = recorder.records[0]
        assert (record.request_id, record.route, record.target.label, record.path) == (
            "id-1", "r", "r@1", "/v1/chat/completions")
        assert message.endswith(record.request)
        assert (record.status, record.outcome, record.error, record.usage) == (200, "ok", "", USAGE)
        assert (record.response, record.truncated) == (found.body[:5], True)
        assert record.first_token is None
        assert 0 < record.seconds < 5


def test_what_is_known_of_a_stream() -> None:
    stream = STREAM_HEAD + chunked(EVENT) + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    with before(says(stream), keep=10_000) as (stand, recorder):
        found = exchange(stand, request(STREAMED))
        eventually(lambda: recorder.records)
        record = recorder.records[0]
        assert (record.response, record.truncated, record.outcome) == (found.body, False, "ok")
        assert record.first_token is not None


def test_a_client_that_leaves_is_recorded_once() -> None:
    with before(hangs, read_timeout_seconds=30) as (stand, recorder):
        with stand.connect() as client:
            client.sendall(request(BODY))
            eventually(lambda: stand.gateway.proxy.in_flight == 1)
        eventually(lambda: recorder.records)
        assert [(r.status, r.outcome, r.error) for r in recorder.records] == [(None, "rejected", "client_left")]
        assert outcomes(stand) == {"ok": 0, "error": 0, "rejected": 1}


class Broken(Recorder):
    """An observer with a mistake in each method."""

    def wants(self, request_id: str, target: Target, request: bytes) -> int | None:
        raise ValueError("at the beginning")

    def answered(self, request_id: str, target: Target, unit: int, begun: float) -> None:
        raise ValueError("at the answer")

    def finished(self, record: Record) -> None:
        raise ValueError("at the end")


def test_a_broken_observer_breaks_no_request() -> None:
    with running_stand(
        lambda urls: [route("r", target("r@1", "stable", 10_000)), loaded("one", urls[0], "r@1")], good,
        observer=Broken(),
    ) as stand:
        found: list[Answer] = [exchange(stand, request(BODY)) for _ in range(3)]
        assert [answer.status for answer in found] == [200] * 3
        stand.assert_clean()
