"""A gateway in a thread of the test's own process, before model servers that the test scripts byte by byte.

For what cannot be seen from outside a process (leaks) and what no well-behaved server or client does.
"""

import asyncio
import gc
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvloop

from services.gateway.doorkeeper import Admission
from services.gateway.record import Observer
from services.gateway.server import Gateway
from services.gateway.settings import GatewaySettings
from services.gateway.table import RouteTable, apply
from shared.events import Payload
from tests.support.routes import fact
from tests.support.wait import eventually

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """A model server that does what a handler says with each connection.

    Attributes:
        connections: taken so far.
        closed: of these, those that the gateway closed while the handler ran.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.url = ""
        self.connections = 0
        self.open = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._handler(reader, writer)
        finally:
            self.open -= 1
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, Any]]:
    """The head and the JSON body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, json.loads(await reader.readexactly(length))


def http(body: bytes, *, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> bytes:
    """An answer in one piece."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{extra}content-length: {len(body)}\r\n\r\n".encode() + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class Stand:
    """A running gateway and the loop that it runs on."""

    gateway: Gateway
    port: int
    loop: asyncio.AbstractEventLoop

    def call(self, work: Callable[[], Any]) -> Any:
        """Run something on the gateway's loop; its result."""
        done: Future[Any] = Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(work()))
        return done.result(30)

    def connect(self) -> socket.socket:
        """A client's connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def value(self, name: str, **labels: str) -> float:
        """One series; 0 where it is not there."""
        return self.gateway.metrics.registry.get_sample_value(f"tuneloop_gateway_{name}", labels) or 0.0

    def assert_clean(self) -> None:
        """Nothing of any request is left: no slot, no connection, no task."""
        gateway = self.gateway
        eventually(lambda: gateway.proxy.in_flight == 0, what="the last slot's return")
        eventually(lambda: not gateway.site.connections, what="the last client's end")
        self.call(gateway.pool.close)
        eventually(lambda: not gateway.pool.open, what="the last model server's connection's end")
        # The timers and the test's own servers.
        eventually(lambda: not gateway.doors.tasks)
        gc.collect()
        assert self.call(lambda: gateway.timers.count) == 0


@contextmanager
def running_stand(
    facts: Callable[[list[str]], list[Payload]], *handlers: Handler, admission: Admission | None = None,
    observer: Observer | None = None, **settings: Any,
) -> Iterator[Stand]:
    """A gateway before one model server per handler; `facts` gets their URLs."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Awaitable[Any]) -> Any:
        async def wrapped() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wrapped(), loop).result(30)

    upstreams = [Upstream(handler) for handler in handlers]
    for upstream in upstreams:
        run(upstream.start())
    gateway = Gateway(GatewaySettings(**settings), admission=admission, observer=observer)
    table = RouteTable()
    for second, item in enumerate(facts([upstream.url for upstream in upstreams])):
        table = apply(table, fact(item, second=second, sequence=second + 1))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stop = asyncio.Event()

    async def use() -> None:
        gateway.use(table)

    run(use())
    serving = asyncio.run_coroutine_threadsafe(gateway.serve(listener, stop), loop)
    try:
        yield Stand(gateway, port, loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        serving.result(30)
        for upstream in upstreams:
            run(upstream.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def request(body: bytes | dict[str, Any], *headers: str, path: str = "/v1/chat/completions") -> bytes:
    """A client's request; headers are whole lines."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: gateway", f"content-length: {len(raw)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + raw


@dataclass
class Answer:
    """What a client read."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of the gateway's own error."""
        code: str = json.loads(self.body)["error"]["code"]
        return code


def read_answer(client: socket.socket, kept: bytes = b"") -> tuple[Answer, bytes]:
    """The next answer on a connection, and what follows it."""
    data = kept
    while b"\r\n\r\n" not in data:
        data += _more(client)
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            while b"\r\n" not in rest:
                rest += _more(client)
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            while len(rest) < length + 2:
                rest += _more(client)
            body, rest = body + rest[:length], rest[length + 2:]
            if not length:
                return Answer(int(first.split()[1]), headers, body), rest
    length = int(headers["content-length"])
    while len(rest) < length:
        rest += _more(client)
    return Answer(int(first.split()[1]), headers, rest[:length]), rest[length:]


def exchange(stand: Stand, message: bytes) -> Answer:
    """One request on a connection of its own."""
    with stand.connect() as client:
        client.sendall(message)
        return read_answer(client)[0]


def _more(client: socket.socket) -> bytes:
    data = client.recv(65_536)
    if not data:
        raise ConnectionError("the gateway closed the connection in the middle of an answer")
    return data
