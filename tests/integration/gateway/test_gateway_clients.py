"""Clients that send what they should not, too slowly, or too much; over real sockets, byte by byte."""

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest

from services.gateway.doorkeeper import ANYONE, Caller
from services.gateway.errors import ApiError
from services.gateway.request import Headers
from tests.support.gateway_stand import (
    STREAM_HEAD,
    Stand,
    chunked,
    exchange,
    http,
    read_answer,
    read_request,
    request,
    running_stand,
)
from tests.support.routes import loaded, route, target
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

BODY = {"model": "r", "messages": []}
SEEN: list[tuple[bytes, dict[str, object]]] = []
EVENT = b"data: " + json.dumps({"choices": [{"delta": {"content": "x" * 4_000}}]}).encode() + b"\n\n"


async def model_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the model's name; streams without end where a stream is asked for."""
    while True:
        head, body = await read_request(reader)
        SEEN.append((head, body))
        if body.get("stream"):
            writer.write(STREAM_HEAD)
            while True:
                writer.write(chunked(EVENT))
                await writer.drain()
                PRODUCED.append(len(EVENT))
        writer.write(http(json.dumps({"model": body["model"], "n": body.get("n")}).encode()))


PRODUCED: list[int] = []


def admit(headers: Headers) -> Caller:
    if headers.get(b"authorization") == b"Bearer bad":
        raise ApiError(401, "invalid_api_key", "no")
    return ANYONE


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with running_stand(
        lambda urls: [route("r", target("r@1", "stable", 10_000)), loaded("one", urls[0], "r@1")], model_server,
        admission=admit, max_body_bytes=20_000, body_timeout_seconds=0.5, head_timeout_seconds=0.5,
        write_timeout_seconds=1.5, max_head_bytes=8_192,
    ) as running:
        yield running


def refused(stand: Stand, raw: bytes, status: int, code: str) -> None:
    """The answer is this error, and then the connection ends."""
    before = stand.value("unrouted_total", code=code)
    asked = len(SEEN)
    with stand.connect() as client:
        client.sendall(raw)
        answer, rest = read_answer(client)
        assert (answer.status, answer.code, rest) == (status, code, b"")
        assert answer.headers["connection"] == "close"
        assert client.recv(100) == b""
    assert stand.value("unrouted_total", code=code) == before + 1
    assert len(SEEN) == asked, "nothing of it reached a model server"
    stand.assert_clean()


RAW = json.dumps(BODY).encode()


@pytest.mark.parametrize(
    "lines",
    [
        ("content-length: 29", "content-length: 30"),
        ("content-length: 29", "content-length: 29"),
        ("content-length: 29", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked, identity",),
        ("transfer-encoding: gzip, chunked",),
        ("transfer-encoding: xchunked",),
        ("content-length: +29",),
        ("content-length: 2_9",),
        ("content-length: -1",),
        ("content-length: 99999999999999999999999",),
        ("content-length : 29",),
        ("content-length: 29", "host: other"),
        ("content-length: 29", "x-request-id: a\rb"),
        ("content-length: 29", "x-request-id: a\nx-tuneloop-unit: b"),
        ("content-length: 29", "traceparent: a\0b"),
        ("content-length: 29", "accept: a", " folded: b"),
        ("content-length: 29", "not a header"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(stand: Stand, lines: tuple[str, ...]) -> None:
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "host: g", *lines, "", ""]).encode()
    refused(stand, head + RAW, 400, "bad_http")


@pytest.mark.parametrize(
    "raw",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"POST /v1/chat/completions\r\n\r\n",
     b"POST /v1/chat/completions HTTP/3.7\r\nhost: g\r\n\r\n", b"POST /v1/chat/completions HTTP/1.1\r\n\r\n",
     b"CONNECT other:443 HTTP/1.1\r\nhost: g\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"],
)
def test_what_is_not_http_is_refused(stand: Stand, raw: bytes) -> None:
    refused(stand, raw, 400, "bad_http")


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /" + b"a" * 9_000 + b" HTTP/1.1\r\nhost: g\r\n\r\n",
        b"POST /" + b"a" * 900_000,
        b"POST / HTTP/1.1\r\nx: " + b"a" * 900_000,
        b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 500,
    ],
)
def test_an_absurd_head_is_431(stand: Stand, raw: bytes) -> None:
    refused(stand, raw, 431, "head_too_large")


def test_a_body_over_the_limit_is_refused_by_its_announcement(stand: Stand) -> None:
    """The answer comes before a single byte of the body is sent."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 20001\r\n"
    refused(stand, head + b"\r\n", 413, "request_too_large")
    refused(stand, head + b"expect: 100-continue\r\n\r\n", 413, "request_too_large")
    chunks = b"transfer-encoding: chunked\r\n\r\n" + chunked(b" " * 15_000) * 2
    refused(stand, b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n" + chunks, 413, "request_too_large")


def test_a_slow_request_is_408(stand: Stand) -> None:
    message = request(BODY)
    refused(stand, message[:-1], 408, "request_timeout")
    refused(stand, message[:40], 408, "request_timeout")


def test_a_silent_connection_is_closed(stand: Stand) -> None:
    with stand.connect() as client:
        assert client.recv(1) == b""


def test_an_expected_continue_is_given(stand: Stand) -> None:
    message = request(BODY, "expect: 100-continue")
    head, body = message.split(b"\r\n\r\n")
    with stand.connect() as client:
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert read_answer(client)[0].status == 200


def test_a_wish_for_another_protocol_is_ignored(stand: Stand) -> None:
    wish = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAA")
    with stand.connect() as client:
        for number in range(3):
            client.sendall(request({**BODY, "n": number}, *wish))
            assert json.loads(read_answer(client)[0].body) == {"model": "r@1", "n": number}


def test_pipelined_requests_are_answered_in_order(stand: Stand) -> None:
    wanted: list[object] = [0, "GET", 1, "invalid_json", 2, "model_not_found", *range(3, 30)]
    messages = {
        "GET": b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n", "invalid_json": request(b"{"),
        "model_not_found": request({"model": "nope"}),
    }
    found: list[object] = []
    with stand.connect() as client:
        client.sendall(b"".join(
            messages[item] if isinstance(item, str) else request({**BODY, "n": item}) for item in wanted
        ))
        rest = b""
        for item in wanted:
            answer, rest = read_answer(client, rest)
            if item == "GET":
                assert answer.body == b"ok\n"
            found.append("GET" if item == "GET" else answer.code if answer.status >= 400 else
                         json.loads(answer.body)["n"])
    assert found == wanted
    stand.assert_clean()


def test_any_split_of_the_bytes_is_the_same_request(stand: Stand) -> None:
    message = request(BODY)
    with stand.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(message), 7):
            client.sendall(message[:cut])
            client.sendall(message[cut:])
            assert json.loads(read_answer(client)[0].body)["model"] == "r@1"


def test_http_10_is_understood(stand: Stand) -> None:
    with stand.connect() as client:
        client.sendall(request(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer, _ = read_answer(client)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert client.recv(1) == b""


def test_a_key_is_refused_before_the_body(stand: Stand) -> None:
    """The connection lives on: the rest of the request is thrown away."""
    head, body = request(BODY, "authorization: Bearer bad").split(b"\r\n\r\n")
    with stand.connect() as client:
        client.sendall(head + b"\r\n\r\n")
        answer, _ = read_answer(client)
        assert (answer.status, answer.code) == (401, "invalid_api_key")
        client.sendall(body + request(BODY))
        assert read_answer(client)[0].status == 200
    stand.assert_clean()


def test_nothing_of_a_clients_headers_reaches_a_model_server_but_four(stand: Stand) -> None:
    lines = ("x-request-id: id-1", "accept: a/b", "traceparent: 00-1", "tracestate: c=d", "authorization: Bearer k",
             "cookie: e", "x-tuneloop-unit: u", "x-forwarded-for: 1.2.3.4", "te: trailers")
    assert exchange(stand, request(BODY, *lines)).status == 200
    head = SEEN[-1][0].decode()
    names = [line.split(":")[0] for line in head.split("\r\n")[1:] if line]
    assert sorted(names) == ["accept", "accept-encoding", "content-length", "content-type", "host", "traceparent",
                             "tracestate", "x-request-id"]


def test_a_client_that_does_not_read_pauses_the_model_server_and_is_dropped(stand: Stand) -> None:
    """What is in flight stays bounded by the kernel's buffers, and its slot comes back."""
    PRODUCED.clear()
    with stand.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(request({**BODY, "stream": True}))
        eventually(lambda: stand.gateway.proxy.in_flight == 1)
        eventually(lambda: stand.gateway.proxy.in_flight == 0)
    assert sum(PRODUCED) < 30_000_000, "an unread stream runs into gigabytes within this time"
    stand.assert_clean()


def test_a_client_that_leaves_ends_the_stream(stand: Stand) -> None:
    outcome = {"route": "r", "model_version": "r@1", "outcome": "rejected"}
    before = stand.value("requests_total", **outcome)
    with stand.connect() as client:
        client.sendall(request({**BODY, "stream": True}))
        assert client.recv(1_000)
    stand.assert_clean()
    assert stand.value("requests_total", **outcome) == before + 1
    assert stand.value("in_flight") == 0


def test_clients_that_leave_while_a_connection_is_made_for_them_leave_nothing_behind() -> None:
    with running_stand(
        lambda urls: [route("r", target("r@1", "stable", 10_000)), loaded("one", urls[0], "r@1")], model_server
    ) as alone:
        for _ in range(30):
            with alone.connect() as client:
                client.sendall(request(BODY))

        def counted() -> float:
            return sum(alone.value("requests_total", route="r", model_version="r@1", outcome=outcome)
                       for outcome in ("ok", "error", "rejected"))

        eventually(lambda: counted() == 30)
        alone.assert_clean()
