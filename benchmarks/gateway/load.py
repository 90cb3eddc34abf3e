"""The two ends of the benchmark, as raw protocols so that neither is what is measured: a stub and a load.

``python -m benchmarks.gateway.load PORT`` runs the stub, a model server that answers at once: 20 events where the body
asks for a stream, else a small JSON document.
"""

import asyncio
import json
import sys
import time
from functools import partial
from typing import cast

import uvloop

BODY = {"model": "MODEL", "user": "u", "messages": [{"role": "user", "content": "Where is my card? " * 8}]}
_DOCUMENT = json.dumps({
    "id": "cmpl-1", "object": "chat.completion", "model": "m@1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "card_arrival"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 4, "total_tokens": 44},
}).encode()
_EVENT = b"data: " + json.dumps({
    "id": "cmpl-1", "object": "chat.completion.chunk", "model": "m@1",
    "choices": [{"index": 0, "delta": {"content": " token"}, "finish_reason": None}],
}).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


JSON_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + str(len(_DOCUMENT)).encode()
    + b"\r\n\r\n" + _DOCUMENT
)
STREAM_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + _chunk(_EVENT) * 20 + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
)


def request(model: str, *, stream: bool) -> bytes:
    """One HTTP request."""
    body = json.dumps({**BODY, "model": model, "stream": stream}).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: x", "content-type: application/json",
             f"content-length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


class Stub(asyncio.Protocol):
    """A model server that has every answer ready."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(rest) < length:
            return
        stream = b'"stream":true' in rest or b'"stream": true' in rest
        self._buffer = b""
        self._transport.write(STREAM_ANSWER if stream else JSON_ANSWER)


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered, until `until`; notes each latency in seconds."""

    def __init__(self, message: bytes, until: float, latencies: list[float], done: asyncio.Future[None]) -> None:
        self._message, self._until, self._latencies, self._done = message, until, latencies, done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not _whole(self._buffer):
            return
        now = time.perf_counter()
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(RuntimeError(self._buffer[:300].decode(errors="replace")))
            return
        self._latencies.append(now - self._asked)
        self._buffer = b""
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self._done.done():
            self._done.set_result(None)

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._message)


def _whole(answer: bytes) -> bool:
    head, separator, rest = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    if b"transfer-encoding" in head.lower():
        return rest.endswith(b"0\r\n\r\n")
    return len(rest) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])


async def load(port: int, message: bytes, *, connections: int, seconds: float) -> list[float]:
    """Latencies of all requests that `connections` made in `seconds`."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    futures = [loop.create_future() for _ in range(connections)]
    for future in futures:
        await loop.create_connection(partial(Client, message, until, latencies, future), "127.0.0.1", port)
    await asyncio.gather(*futures)
    return latencies


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
