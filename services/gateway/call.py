"""One request on a client's connection, and the way for its answer; and what a server of requests has to offer."""

from typing import Protocol

from services.gateway import errors
from services.gateway.request import request_id
from services.gateway.wire import LAST_CHUNK, RequestHead, chunk, lines, status_line


class Work(Protocol):
    """What answers one call. Every method is called on the event loop and returns at once."""

    def start(self, body: bytes) -> None:
        """The request is whole, and it is its turn."""

    def refused(self, error: errors.ApiError) -> None:
        """The rest of the request did not come as it should; the connection answers with `error`."""

    def client_left(self) -> None:
        """Nobody waits for the answer any more."""

    def cut(self, error: errors.ApiError) -> None:
        """Tell the client `error`, now: the process ends."""

    def pause(self) -> None:
        """The client reads too slowly: send nothing until `resume`."""

    def resume(self) -> None:
        """The client has caught up."""


class Wire(Protocol):
    """A connection, as a call sees it."""

    def write(self, data: bytes) -> None: ...

    def answered(self, call: "Call") -> None: ...

    def abort(self) -> None: ...


class Call:
    """A request and the state of its answer.

    Attributes:
        work: who answers it; None where it was refused at its head.
        error: why it is refused, if it is.
        whole: its body has arrived to the last byte.
        started: it is being answered.
        last: the connection closes behind its answer.
    """

    __slots__ = ("_chunked", "_wire", "begun", "ended", "error", "head", "identity", "last", "parts", "size", "started",
                 "whole", "work")

    def __init__(self, wire: Wire, head: RequestHead, *, last: bool) -> None:
        self._wire = wire
        self.head = head
        self.identity = request_id(head.fields)
        self.last = last
        self.work: Work | None = None
        self.error: errors.ApiError | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.whole = self.started = self.begun = self.ended = self._chunked = False

    @property
    def mark(self) -> bytes:
        """The header line by which a client can ask about its request."""
        return b"x-tuneloop-request-id: %b\r\n" % self.identity.encode()

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Answer in one piece. `head` are header lines, here and below."""
        self.begun = True
        self._wire.write(b"%b%bcontent-length: %d\r\n%b\r\n%b" % (
            status_line(status), head, len(body), self._closing(), b"" if self.head.method == b"HEAD" else body
        ))
        self._end()

    def respond_error(self, error: errors.ApiError, head: bytes = b"") -> None:
        """Answer with one of the gateway's own errors."""
        self.respond(error.status, lines(error.headers()) + head, error.body())

    def begin(self, status: int, head: bytes) -> None:
        """Begin an answer whose length is not known yet."""
        self.begun = True
        self._chunked = self.head.http11
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        # HTTP/1.0 knows no chunks; there the end of the connection is the end of the answer.
        self.last = self.last or not self._chunked
        self._wire.write(b"%b%b%b%b\r\n" % (status_line(status), head, framing, self._closing()))

    def write(self, data: bytes) -> None:
        """Send a part of the answer that `begin` began."""
        if data and self.head.method != b"HEAD":
            self._wire.write(chunk(data) if self._chunked else data)

    def end(self) -> None:
        """The answer that `begin` began is whole."""
        if self._chunked and self.head.method != b"HEAD":
            self._wire.write(LAST_CHUNK)
        self._end()

    def break_off(self) -> None:
        """Close the connection in the middle of the answer, which shows that it is not whole."""
        self._wire.abort()

    def _end(self) -> None:
        self.ended = True
        self._wire.answered(self)

    def _closing(self) -> bytes:
        if self.last:
            return b"connection: close\r\n"
        return b"" if self.head.http11 else b"connection: keep-alive\r\n"
