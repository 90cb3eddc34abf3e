"""One client's connection: requests in, answers out in the same order, and nothing that a client does can cost much.

Limits on head, body and time; keep-alive; pipelined requests, of which few are read ahead; a client that reads slowly
pauses whoever answers it, and one that does not read at all is dropped. What answers a request is a `Work`.
"""

import asyncio
from collections import deque
from typing import cast

import httptools

from services.gateway import errors
from services.gateway.call import Call
from services.gateway.flush import Writer
from services.gateway.site import Site
from services.gateway.wire import CONTINUE, HEADER_OVERHEAD, RawHeaders, RequestHead
from shared.telemetry import get_logger

log = get_logger(__name__)

_NEVER = float("inf")
# Requests read ahead of the one that is answered. While reading is paused, a client that leaves is not noticed.
_READ_AHEAD = 8
# How long the rest of a refused request is thrown away, so that its sender gets to read why (RFC 9112, 9.6).
_LINGER_SECONDS = 2.0


class ClientConnection(asyncio.Protocol):
    """See the module."""

    __slots__ = ("_advancing", "_calls", "_carried", "_deaf", "_first", "_headers", "_in_head", "_loop", "_parser",
                 "_read_by", "_reading", "_receiving", "_site", "_target", "_trailers", "_transport", "_write_by",
                 "_writer")

    def __init__(self, site: Site) -> None:
        self._site = site
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._calls: deque[Call] = deque()
        self._receiving: Call | None = None
        self._headers: RawHeaders = []
        self._target = b""
        # Bytes of the read at hand; of the read in which the head began; of those after it; of trailers.
        self._reading = self._first = self._carried = self._trailers = 0
        self._in_head = self._advancing = False
        # Deaf: what still comes is thrown away, because the bounds of messages are lost or the connection is ending.
        self._deaf = False
        self._read_by = self._write_by = _NEVER

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        site = self._site
        self._writer = Writer(site.flusher, transport)
        site.connections.add(self)
        site.timers.add(self)
        self._read_by = self._loop.time() + site.limits.head_seconds
        if len(site.connections) > site.limits.connections:
            log.warning("too many connections; one was closed", limit=site.limits.connections)
            self._writer.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._site.connections.discard(self)
        self._site.timers.discard(self)
        self._deaf = True
        calls, self._calls = self._calls, deque()
        for call in calls:
            if call.work is not None and not call.ended:
                call.ended = True
                call.work.client_left()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._reading = len(data)
        if self._in_head:
            self._carried += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(data[upgrade.args[0]:])
        except httptools.HttpParserCallbackError as error:
            # A mistake of ours; whoever worked for this connection hears that its client is gone.
            log.exception("a client's connection failed", reason=repr(error.__context__))
            self._writer.abort()
        except httptools.HttpParserError as error:
            if not self._deaf:
                self._refuse(errors.bad_http(str(error)))
        if self._in_head:
            self._check_head()

    def pause_writing(self) -> None:
        self._write_by = self._loop.time() + self._site.limits.write_seconds
        if self._calls and (work := self._calls[0].work) is not None:
            work.pause()

    def resume_writing(self) -> None:
        self._write_by = _NEVER
        if self._calls and (work := self._calls[0].work) is not None:
            work.resume()
        self._advance()

    # The parser's calls.

    def on_message_begin(self) -> None:
        if not self._deaf:
            self._in_head = True
            self._first, self._carried, self._trailers = self._reading, 0, 0
            self._headers, self._target = [], b""
            self._read_by = self._loop.time() + self._site.limits.head_seconds

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name.lower(), value.strip(b" \t")))
        else:
            # Trailers, which nobody here needs.
            self._trailers += len(name) + len(value) + HEADER_OVERHEAD
            if self._trailers > self._site.limits.head_bytes:
                self._refuse_head()

    def on_headers_complete(self) -> None:
        if self._deaf:
            return
        self._in_head = False
        parser, headers = self._parser, self._headers
        self._check_head()
        if self._deaf or parser.should_upgrade():
            return  # the parser raises HttpParserUpgrade next
        version = parser.get_http_version()
        head = RequestHead(parser.get_method(), self._target, headers, http11=version == "1.1")
        problem = head.problem() if version in ("1.1", "1.0") else f"HTTP/{version} is not spoken here"
        if problem:
            self._refuse(errors.bad_http(problem))
        else:
            self._accept(Call(self, head, last=self._site.draining or not parser.should_keep_alive()))

    def on_body(self, part: bytes) -> None:
        call = self._receiving
        if call is None or self._deaf:
            return
        call.size += len(part)
        if call.size > self._site.limits.body_bytes:
            self._refuse(errors.too_large(self._site.limits.body_bytes))
        elif call.error is None:
            call.parts.append(part)

    def on_message_complete(self) -> None:
        call = self._receiving
        if call is None or self._deaf:
            return
        self._receiving = None
        call.whole = True
        self._read_by = _NEVER
        if len(self._calls) > _READ_AHEAD:
            self._transport.pause_reading()
        self._advance()
        if not self._calls:
            self._rest()

    # What a call calls.

    def write(self, data: bytes) -> None:
        """Send bytes; we are paused where the client does not take them."""
        self._writer.write(data)

    def answered(self, call: Call) -> None:
        """The oldest call has its whole answer; it is the next one's turn."""
        self._calls.popleft()
        call.parts.clear()
        call.work = None  # which refers to the call; a circle would wait for the collector
        if call.last:
            self._close_behind(call)
        elif self._site.draining and not self._calls and self._receiving is None:
            self._writer.close()
        else:
            if len(self._calls) == _READ_AHEAD:
                self._transport.resume_reading()
            if self._receiving is None and not self._calls and not self._in_head:
                self._rest()
            self._advance()

    # The server's calls.

    def check(self, now: float) -> None:
        """Act on limits of time that passed."""
        if now >= self._write_by:
            log.info("a client reads nothing; its connection is closed")
            self._writer.abort()
        elif now >= self._read_by:
            self._read_by = _NEVER
            limits = self._site.limits
            if self._deaf:
                self._writer.abort()
            elif self._receiving is not None:
                self._refuse(errors.slow_request("body", limits.body_seconds))
            elif self._in_head:
                self._refuse(errors.slow_request("head", limits.head_seconds))
            else:
                self._writer.close()

    def drain(self) -> None:
        """Close when the requests that have begun are answered."""
        for call in self._calls:
            call.last = call is self._calls[-1]
        if not self._calls and not self._in_head:
            self._writer.close()

    def cut(self, error: errors.ApiError) -> None:
        """Tell `error` to whoever still waits, and close."""
        self._deaf = True
        if self._calls and (work := self._calls[0].work) is not None and self._calls[0].started:
            self._calls[0].last = True
            work.cut(error)
        self._writer.close()

    def abort(self) -> None:
        """Close without a word."""
        self._writer.abort()

    # Inside.

    def _accept(self, call: Call) -> None:
        limits = self._site.limits
        self._receiving = call
        self._calls.append(call)
        self._read_by = self._loop.time() + limits.body_seconds
        if call.head.announced() > limits.body_bytes:
            self._refuse(errors.too_large(limits.body_bytes))
            return
        try:
            call.work = self._site.accept(call)
        except errors.ApiError as error:
            call.error = error
            self._advance()
            return
        if b"expect" in call.head.fields and call is self._calls[0]:
            self._writer.write(CONTINUE)

    def _advance(self) -> None:
        """Have the oldest call answered if it is whole or refused. A loop, since answers may come at once."""
        if self._advancing:
            return
        self._advancing = True
        try:
            self._answer_next()
        finally:
            self._advancing = False

    def _answer_next(self) -> None:
        while self._calls and self._write_by == _NEVER and not self._transport.is_closing():
            call = self._calls[0]
            if call.started or not (call.whole or call.error is not None):
                break
            call.started = True
            if call.error is not None:
                call.respond_error(call.error, call.mark)
            elif call.work is not None:
                call.work.start(call.parts[0] if len(call.parts) == 1 else b"".join(call.parts))

    def _check_head(self) -> None:
        """Refuse a head that is too long so far."""
        limit, headers = self._site.limits.head_bytes, self._headers
        # Where even all that was read would not be too long, nothing needs to be added up.
        if self._first + self._carried + HEADER_OVERHEAD * len(headers) <= limit:
            return
        read = len(self._target) + sum(len(name) + len(value) + HEADER_OVERHEAD for name, value in headers)
        if max(read, self._carried) > limit:
            self._refuse_head()

    def _refuse_head(self) -> None:
        if not self._deaf:
            self._refuse(errors.head_too_large(self._site.limits.head_bytes))

    def _refuse(self, error: errors.ApiError) -> None:
        """Answer `error` when it is its turn, read no further, and close."""
        self._deaf = True
        call, self._receiving = self._receiving, None
        if call is not None and call.ended:
            self._close_behind(call)
            return
        if call is None:
            call = Call(self, RequestHead(b"", b"", [], http11=True), last=True)
            self._calls.append(call)
        call.last = True
        if call.error is None:
            call.error = error
            work, call.work = call.work, None
            (work or self._site).refused(error)
        self._read_by = _NEVER
        self._advance()

    def _close_behind(self, call: Call) -> None:
        """Close after an answer; where a request may still be coming, not before its sender had time to read it."""
        whole = call.whole and not self._deaf
        self._deaf = True
        if whole or self._transport.is_closing():
            self._writer.close()
        else:
            self._writer.end()
            self._read_by = self._loop.time() + _LINGER_SECONDS

    def _rest(self) -> None:
        """Wait for the next request."""
        self._read_by = self._loop.time() + self._site.limits.idle_seconds

    def _stay_with_http(self, rest: bytes) -> None:
        """Read a request that wished for another protocol as the plain request that it also is.

        The parser takes what follows such a head for the other protocol's. Java's HTTP client wishes for HTTP/2 with
        every first request, and must be answered all the same (RFC 9110, 7.8).
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(errors.bad_http("it wants a tunnel"))
            return
        head = RequestHead(method, self._target, self._headers, http11=True).without_upgrade()
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(head + rest)
