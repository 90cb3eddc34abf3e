"""The bridge to an ASGI application: every door but the data path is an ordinary web application's.

A call becomes a scope, its body one message, and what the application sends an answer. Nothing is optimised here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Message

from services.gateway import errors
from services.gateway.call import Call
from services.gateway.wire import lines
from shared.telemetry import get_logger

log = get_logger(__name__)

_FAILED = errors.ApiError(500, "internal_error", "the gateway failed; its log says why")


class AsgiServer:
    """Answers calls by an ASGI application. Keeps its tasks, so that none is forgotten while it runs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.tasks: set[asyncio.Task[None]] = set()

    def accept(self, call: Call) -> "AsgiCall":
        """The work of a call."""
        return AsgiCall(call, self)

    def run(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Message]],
            send: Callable[[Message], Awaitable[None]]) -> asyncio.Task[None]:
        """Run the application for one request."""
        async def run() -> None:
            await self._app(scope, receive, send)

        task = asyncio.get_running_loop().create_task(run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class AsgiCall:
    """One request to the application."""

    def __init__(self, call: Call, server: AsgiServer) -> None:
        self._call = call
        self._server = server
        self._task: asyncio.Task[None] | None = None
        self._body: bytes | None = None
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._head: Message | None = None

    def start(self, body: bytes) -> None:
        """Call the application."""
        self._body = body
        self._task = self._server.run(self._scope(), self._receive, self._send)
        self._task.add_done_callback(self._done)

    def refused(self, error: errors.ApiError) -> None:
        """Nothing was begun."""

    def client_left(self) -> None:
        """The application hears of it; what it does for nobody is stopped."""
        self._gone.set()
        if self._task is not None:
            self._task.cancel()

    def cut(self, error: errors.ApiError) -> None:
        """Stop the application."""
        if not self._call.begun:
            self._call.respond_error(error)
        self.client_left()

    def pause(self) -> None:
        """`_send` waits."""
        self._writable.clear()

    def resume(self) -> None:
        """`_send` goes on."""
        self._writable.set()

    def _scope(self) -> dict[str, Any]:
        head = self._call.head
        return {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
            "method": head.method.decode("ascii"), "path": head.path, "raw_path": head.target.partition(b"?")[0],
            "query_string": head.query, "headers": head.headers, "client": None, "server": None, "state": {},
        }

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self._writable.wait()
        call = self._call
        if call.ended:
            return
        if message["type"] == "http.response.start":
            self._head = message
            return
        if self._head is None:
            raise RuntimeError("the application sent a body before a head")
        status, headers = self._head["status"], self._head.get("headers", ())
        head = lines(header for header in headers if header[0].lower() != b"content-length")
        body, more = message.get("body", b""), message.get("more_body", False)
        if not call.begun and not more:
            call.respond(status, head, body)
            return
        if not call.begun:
            call.begin(status, head)
        call.write(body)
        if not more:
            call.end()

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a door failed", path=self._call.head.path, exc_info=error)
        if self._call.ended:
            return
        if not self._call.begun:
            self._call.respond_error(_FAILED)
        else:
            # A part of an answer must not look like a whole one.
            self._call.break_off()
