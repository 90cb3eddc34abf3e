"""One request and its answer, after its target was chosen: relayed, timed and counted exactly once.

The first fault decides the outcome. ``ok``: a whole answer of status 2xx. ``rejected``: the client's doing, that is a
4xx of the model server about the request, or the client left. ``error``: everything else.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Literal

import aiohttp
from starlette.types import Send

from services.gateway import errors
from services.gateway.http import RawHeaders, send_body, send_error, send_head
from services.gateway.metrics import Outcome, TargetMetrics
from services.gateway.plan import Target
from services.gateway.sse import EventCutter, EventTooLongError, Observed, StreamMeter, usage_of
from services.gateway.upstream import Upstream
from shared.telemetry import current_traceparent, get_logger, span

log = get_logger(__name__)

_PASSED_ON = ("content-type", "content-encoding", "cache-control", "retry-after")
# Statuses that a client of the gateway cannot cause: the gateway chose the path, the model and the credentials.
_NOT_THE_CLIENTS_FAULT = frozenset({401, 403, 404, 405, 407, 408, 429})
# What a response that broke off may raise while it is read. TimeoutError is an OSError.
_READ_ERRORS = (aiohttp.ClientError, OSError, EventTooLongError)


def outcome_of(status: int) -> Outcome:
    """What a model server's status means for the model version."""
    if 200 <= status < 300:
        return "ok"
    return "rejected" if 400 <= status < 500 and status not in _NOT_THE_CLIENTS_FAULT else "error"


class Exchange:
    """One request to one target.

    Args:
        path: of the request, here and at the model server.
        body: for the model server.
        headers: for the model server.
        identity: the request's id.
        send: towards the client.
        traced: make a span for it, where traces are exported.

    Attributes:
        client_left: set by whoever cancels `run` because the client went away.
    """

    def __init__(
        self, *, target: Target, metrics: TargetMetrics, upstream: Upstream, path: str, body: bytes,
        headers: Mapping[str, str], identity: str, send: Send, max_response_bytes: int, traced: bool = False,
    ) -> None:
        self._target = target
        self._metrics = metrics
        self._upstream = upstream
        self._path = path
        self._body = body
        self._headers = headers
        self._identity = identity
        self._send = send
        self._max_response_bytes = max_response_bytes
        self._traced = traced
        self._answer: Literal["not begun", "stream", "whole"] = "not begun"
        self._begun = time.perf_counter()
        self.client_left = False

    async def run(self) -> None:
        """Ask, relay, count. Raises nothing but cancellation."""
        outcome: Outcome = "error"
        try:
            with self._span():
                outcome = await self._relay()
        except errors.ApiError as error:
            log.warning("request failed", request=self._identity, route=self._target.route, model=self._target.label,
                        code=error.code, reason=str(error))
            await self._tell(error)
        except asyncio.CancelledError:
            outcome = "rejected" if self.client_left else "error"
            if not self.client_left:
                await self._tell_quickly(errors.shutting_down())
            raise
        finally:
            self._metrics.ended(outcome)

    def _span(self) -> AbstractContextManager[Any]:
        if not self._traced:
            return nullcontext()
        return span("inference", self._headers.get("traceparent"), route=self._target.route, model=self._target.label)

    async def _relay(self) -> Outcome:
        headers = self._headers
        if self._traced and (traceparent := current_traceparent()):
            headers = {**headers, "traceparent": traceparent}
        async with self._upstream.ask(self._target, self._path, self._body, headers) as answer:
            try:
                if answer.status == 200 and answer.content_type == "text/event-stream":
                    return await self._stream(answer)
                return await self._whole(answer)
            except _READ_ERRORS as error:
                raise self._upstream.failure(self._target, error) from error

    async def _whole(self, answer: aiohttp.ClientResponse) -> Outcome:
        """An answer in one piece, held until it is whole so that a broken one becomes a proper error."""
        parts: list[bytes] = []
        size = 0
        async for part in answer.content.iter_any():
            size += len(part)
            if size > self._max_response_bytes:
                raise errors.upstream_failed(self._target.label, f"it is longer than {self._max_response_bytes} bytes")
            parts.append(part)
        body = b"".join(parts)
        outcome = outcome_of(answer.status)
        if 300 <= answer.status < 400:
            raise errors.upstream_failed(self._target.label, f"it answered with a redirect ({answer.status})")
        if outcome == "ok":
            self._metrics.duration.observe(time.perf_counter() - self._begun)
            self._metrics.used(usage_of(body))
        headers = [*self._head(answer), (b"content-length", str(len(body)).encode())]
        self._answer = "whole"
        await send_head(self._send, answer.status, headers)
        await send_body(self._send, body)
        return outcome

    async def _stream(self, answer: aiohttp.ClientResponse) -> Outcome:
        """Server-sent events, passed on as they come.

        Raises:
            ApiError: the stream broke off, or ended without ``[DONE]``.
        """
        self._answer = "stream"
        await send_head(self._send, answer.status, self._head(answer))
        cutter, meter = EventCutter(), StreamMeter(self._begun)
        try:
            async for chunk in answer.content.iter_any():
                whole, payloads = cutter.feed(chunk)
                self._observe(meter.see(payloads, time.perf_counter()))
                if whole:
                    await send_body(self._send, whole, more=True)
        except _READ_ERRORS:
            # After [DONE] the client has everything, however the connection ends.
            if not meter.done:
                raise
        if not meter.done and not meter.error:
            raise errors.upstream_failed(self._target.label, "the stream ended without [DONE]")
        self._metrics.used(meter.usage)
        await send_body(self._send, b"")
        if meter.error:
            log.warning("the model server reported an error in its stream", request=self._identity,
                        route=self._target.route, model=self._target.label, reason=meter.error[:500])
            return "error"
        self._metrics.duration.observe(time.perf_counter() - self._begun)
        return "ok"

    def _observe(self, observed: Observed) -> None:
        if observed.first_token is not None:
            self._metrics.first_token.observe(observed.first_token)
        for gap in observed.gaps:
            self._metrics.inter_token.observe(gap)

    async def _tell(self, error: errors.ApiError) -> None:
        """Let the client know, in whichever way is left: an answer, or an event in the stream that has begun."""
        if self._answer == "stream":
            await send_body(self._send, error.sse())
        elif self._answer == "not begun":
            await send_error(self._send, error, self._ours())

    async def _tell_quickly(self, error: errors.ApiError) -> None:
        """The same while the process ends, which must not wait for a client that reads slowly."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._tell(error)

    def _head(self, answer: aiohttp.ClientResponse) -> RawHeaders:
        given = answer.headers
        passed = [(name.encode(), given[name].encode("latin-1")) for name in _PASSED_ON if name in given]
        return [*passed, *self._ours()]

    def _ours(self) -> RawHeaders:
        return [
            (b"x-tuneloop-model-version", self._target.label.encode()),
            (b"x-tuneloop-request-id", self._identity.encode()),
        ]
