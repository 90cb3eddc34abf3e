"""One connection to a model server: a request out, an answer in, one at a time."""

import asyncio
import select
from typing import Protocol, cast

import httptools

from services.gateway.flush import Flusher, Writer
from services.gateway.request import Headers
from services.gateway.wire import HEADER_OVERHEAD

_NEVER = float("inf")
_HEAD_BYTES = 65_536
_FRESH_SECONDS = 0.5


class BrokenAnswerError(Exception):
    """The model server broke off, or what it said is not an HTTP answer."""


class NothingSentError(BrokenAnswerError):
    """It broke off before any of the request was sent."""


class Receiver(Protocol):
    """Whoever waits for an answer. `link` has been given up by the time that `whole` or `lost` is called."""

    def head(self, status: int, fields: Headers) -> None: ...

    def data(self, part: bytes) -> None: ...

    def whole(self) -> None: ...

    def lost(self, error: Exception) -> None: ...


class Keeper(Protocol):
    """Told when a connection is there, when it is free again, and when it is gone."""

    def opened(self, link: "Link") -> None: ...

    def keep(self, link: "Link") -> None: ...

    def forget(self, link: "Link") -> None: ...


class Link(asyncio.Protocol):
    """See the module.

    Args:
        read_seconds: silence that breaks off an answer, with `TimeoutError`.
        idle_seconds: time between answers after which the connection is closed.
    """

    __slots__ = ("_fields", "_flusher", "_head_size", "_headed", "_idle_seconds", "_keep", "_keeper", "_loop",
                 "_parser", "_parts", "_paused", "_poll", "_read_seconds", "_receiver", "_skip", "_status", "_told",
                 "_transport", "_unheaded", "_until_eof", "_wait_until", "_whole", "_writer", "url")

    def __init__(self, url: str, keeper: Keeper, flusher: Flusher, *, read_seconds: float, idle_seconds: float) -> None:
        self.url = url
        self._keeper = keeper
        self._flusher = flusher
        self._read_seconds = read_seconds
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._wait_until = _NEVER
        self._paused = False
        self._reset()

    def _reset(self) -> None:
        self._fields: dict[bytes, bytes] = {}
        self._head_size = self._unheaded = self._status = 0
        self._parts: list[bytes] = []
        self._headed = self._told = self._whole = self._keep = self._until_eof = self._skip = False

    def usable(self) -> bool:
        """Whether a request may go out: nothing has come in, neither data nor an end.

        No server closes a connection that it has just used, so the kernel is asked about older ones only.
        """
        if self._transport.is_closing():
            return False
        idle = self._idle_seconds - (self._wait_until - self._loop.time())
        return idle < _FRESH_SECONDS or not self._poll.poll(0)

    def ask(self, message: bytes, receiver: Receiver) -> None:
        """Send a request; `receiver` hears of its answer."""
        self._reset()
        self._receiver = receiver
        self._wait_until = self._loop.time() + self._read_seconds
        self._writer.write(message)

    def pause(self) -> None:
        """Read nothing until `resume`; the model server is stopped by TCP. Meanwhile its silence is not its fault."""
        self._paused = True
        self._wait_until = _NEVER
        self._transport.pause_reading()

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._wait_until = self._loop.time() + self._read_seconds
        self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once; the receiver hears nothing more. A model server stops working for an answer nobody reads."""
        self._receiver = None
        self._writer.abort()

    def check(self, now: float) -> None:
        """Act on limits of time that passed."""
        if now >= self._wait_until:
            self._wait_until = _NEVER
            self._fail(TimeoutError(f"silent for {self._read_seconds:g} s"))

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._writer = Writer(self._flusher, transport)
        self._poll = select.poll()
        # For the unlikely case that whoever wanted it has gone: a connection that is never used is closed, too.
        self._wait_until = self._loop.time() + self._idle_seconds
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._keeper.opened(self)

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self._writer.abort()
            return
        self._wait_until = self._loop.time() + self._read_seconds
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._whole:
                self._deliver(receiver)
                self._fail(BrokenAnswerError(f"it did not answer in HTTP: {error}"))
                return
            self._keep = False
        if not self._headed:
            self._unheaded += len(data)
        if self._head_size > _HEAD_BYTES or self._unheaded > _HEAD_BYTES:
            self._fail(BrokenAnswerError(f"the head of its answer is longer than {_HEAD_BYTES} bytes"))
            return
        self._deliver(receiver)
        if self._whole and self._receiver is receiver:
            self._free()
            receiver.whole()

    def eof_received(self) -> bool:
        if self._until_eof and self._receiver is not None and not self._whole:
            receiver = self._receiver
            self._free()
            receiver.whole()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeper.forget(self)
        kind = NothingSentError if self._writer.waiting else BrokenAnswerError
        self._fail(kind(str(exc) if exc is not None else "it closed the connection"))

    # The parser's calls.

    def on_message_begin(self) -> None:
        if self._whole:
            # Bytes behind the answer: nobody asked for them, and whatever they are, they are not the next answer.
            self._keep = False
            self._skip = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + HEADER_OVERHEAD
        if not self._headed and self._head_size <= _HEAD_BYTES:
            self._fields[name.lower()] = value.strip(b" \t")

    def on_headers_complete(self) -> None:
        if self._skip:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._fields = {}
            return
        self._headed, self._status = True, status
        bounded = b"content-length" in self._fields or b"chunked" in self._fields.get(b"transfer-encoding", b"").lower()
        self._until_eof = not bounded and status not in (204, 304)
        self._keep = not self._until_eof and self._parser.should_keep_alive()

    def on_body(self, part: bytes) -> None:
        if not self._skip:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        if self._headed:
            self._whole = True

    # Inside.

    def _deliver(self, receiver: Receiver) -> None:
        """Hand on what one read brought, as one part. The receiver may give the connection up at any moment."""
        if self._headed and not self._told:
            self._told = True
            receiver.head(self._status, self._fields)
        if self._parts:
            parts, self._parts = self._parts, []
            if self._receiver is receiver:
                receiver.data(parts[0] if len(parts) == 1 else b"".join(parts))

    def _free(self) -> None:
        self._receiver = None
        if self._keep and not self._transport.is_closing():
            if self._paused:
                self.resume()
            self._wait_until = self._loop.time() + self._idle_seconds
            self._keeper.keep(self)
        else:
            self._writer.abort()

    def _fail(self, error: Exception) -> None:
        receiver, self._receiver = self._receiver, None
        self._writer.abort()
        if receiver is not None:
            receiver.lost(error)
