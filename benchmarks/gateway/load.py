"""Closed-loop load over kept connections, as a raw protocol: each connection asks again as soon as it is answered."""

import asyncio
import json
import time
from functools import partial
from typing import cast

SECRET = "b" * 43
KEY = f"tl_bench_{SECRET}"
BODY = {"messages": [{"role": "user", "content": "Where is my card? " * 8}]}


def request(model: str, user: str, *, stream: bool) -> bytes:
    """One HTTP request."""
    body = json.dumps({**BODY, "user": user, "model": model, "stream": stream}).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: x", "content-type: application/json",
             f"authorization: Bearer {KEY}", f"content-length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


class Client(asyncio.Protocol):
    """One connection. Notes each latency in seconds, until `until` or until `budget` has no more requests."""

    def __init__(self, run: "Run", message: bytes, done: asyncio.Future[None]) -> None:
        self._run, self._message, self._done = run, message, done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._run.whole(self._buffer):
            return
        now = time.perf_counter()
        if not self._buffer.startswith(b"HTTP/1.1 200") or b"token" not in self._buffer:
            self._fail(self._buffer[:300].decode(errors="replace"))
            return
        self._run.latencies.append(now - self._asked)
        self._buffer = b""
        if now < self._run.until and len(self._run.latencies) < self._run.most:
            self._ask()
        else:
            self._done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._fail(f"the connection was closed: {exc}")

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._message)

    def _fail(self, reason: str) -> None:
        self._done.set_exception(RuntimeError(f"not the answer that was expected: {reason}"))
        self._transport.abort()


class Run:
    """What the connections of one measurement share."""

    def __init__(self, *, stream: bool, seconds: float, most: float) -> None:
        self.latencies: list[float] = []
        self.most = most
        self.until = time.perf_counter() + seconds
        self.whole = _whole_stream if stream else _whole_document


def _whole_stream(answer: bytes) -> bool:
    return answer.endswith(b"0\r\n\r\n")


def _whole_document(answer: bytes) -> bool:
    head, separator, rest = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(rest) >= int(length) if length else rest.endswith(b"0\r\n\r\n")


async def load(
    port: int, model: str, *, stream: bool, connections: int, seconds: float = 3600, most: float = float("inf")
) -> list[float]:
    """Latencies in seconds of all requests that `connections` made in `seconds`, or of the first `most`.

    Each connection is another user's.
    """
    loop = asyncio.get_running_loop()
    run = Run(stream=stream, seconds=seconds, most=most)
    futures = [loop.create_future() for _ in range(connections)]
    for number, future in enumerate(futures):
        message = request(model, f"user-{number}", stream=stream)
        await loop.create_connection(partial(Client, run, message, future), "127.0.0.1", port)
    await asyncio.gather(*futures)
    return run.latencies
