"""Copies of requests to a version that nobody gets answers from: how it would do, at no risk to anybody.

A copy is sent when the primary's answer is through, so it can neither slow it nor break it. Copies have connections,
breakers, a limit and a timeout of their own; they are never repeated, and their answers are thrown away as they come.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from services.gateway import errors
from services.gateway.balance import Balancer
from services.gateway.draw import drawn
from services.gateway.exchange import outcome_of
from services.gateway.flush import Flusher
from services.gateway.metrics import GatewayMetrics, ShadowMetrics, ShadowOutcome
from services.gateway.plan import Plan, Target
from services.gateway.pool import Pool
from services.gateway.record import Record
from services.gateway.request import Headers, parse
from services.gateway.sse import EventTooLongError, StreamMeter
from services.gateway.timers import Timers
from services.gateway.upstream import HEAD, Order, Question, Upstream


class Shadow:
    """Sends copies. On one event loop.

    Args:
        plan: gives the plan in effect now.
        limit: copies at once.
        seconds: for the whole answer to one.
    """

    def __init__(
        self, timers: Timers, flusher: Flusher, balancer: Balancer, metrics: GatewayMetrics,
        plan: Callable[[], Plan], *, limit: int, seconds: float, connect_seconds: float,
    ) -> None:
        self._balancer = balancer
        self._metrics = metrics
        self._plan = plan
        self._limit = limit
        self._seconds = seconds
        self._pool = Pool(timers, flusher, connect_seconds=connect_seconds, read_seconds=seconds)
        self._upstream = Upstream(self._pool, balancer, seconds)
        self.copies: set[_Copy] = set()

    def follows(self, route: str) -> bool:
        """Whether a shadow may want copies of a route's requests."""
        found = self._plan().routes.get(route)
        return found is not None and bool(found.shadows)

    def consider(self, record: Record) -> None:
        """A request went well: once its answer is on its way, send a copy to the shadows that draw it."""
        route = self._plan().routes.get(record.route)
        if route is None or record.outcome != "ok":
            return
        for target in route.shadows:
            if target.label != record.target.label and drawn("shadow", record.request_id, target.shadow_share):
                # Not now: the last bytes of the primary's answer go out at the end of this turn, the copy in the next.
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self._send, record, target)

    def use(self, plan: Plan) -> None:
        """Forget the health of replicas that are no longer there."""
        self._balancer.keep_only(plan.endpoints())

    def close(self) -> None:
        """Break off everything."""
        for copy in tuple(self.copies):
            copy.expire()
        self._pool.close()

    def _send(self, record: Record, target: Target) -> None:
        metrics = self._metrics.shadow(target.route, target.label)
        endpoint = self._balancer.choose(target.endpoints, target.label, time.monotonic())
        if len(self.copies) >= self._limit or endpoint is None:
            metrics.ended("dropped")
            return
        # Its only replica: a copy that fails is not repeated with another.
        alone = replace(target, endpoints=(endpoint,))
        order = Order(
            target=alone, unit=record.unit, path=record.path, request=record.request,
            body=parse(record.request).body_for(target.upstream_model),
            head=HEAD % f"{record.request_id}.shadow".encode(),
        )
        _Copy(self.copies, metrics).begin(self._upstream, order, self._seconds)


class _Copy:
    """One copy, and what its answer says about the version."""

    __slots__ = ("_begun", "_copies", "_meter", "_metrics", "_over", "_question", "_status", "_streams", "_timeout")

    def __init__(self, copies: "set[_Copy]", metrics: ShadowMetrics) -> None:
        self._copies = copies
        self._metrics = metrics
        self._begun = time.perf_counter()
        self._meter = StreamMeter(self._begun)
        self._streams = False
        self._question: Question | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._status = 0
        self._over = False

    def begin(self, upstream: Upstream, order: Order, seconds: float) -> None:
        """Ask."""
        self._copies.add(self)
        self._timeout = asyncio.get_running_loop().call_later(seconds, self.expire)
        self._question = upstream.ask(order, self)

    def expire(self) -> None:
        """Its time is over."""
        if not self._over:
            self._cancel()
            self._end("timeout")

    # What the model server says.

    def head(self, status: int, fields: Headers) -> None:
        """The answer begins."""
        self._status = status
        if status == 200 and fields.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            self._streams = True

    def data(self, part: bytes) -> None:
        """A part of it, which nobody needs but to see whether a stream ends as it should."""
        if not self._streams or self._over:
            return
        try:
            self._meter.feed(part, time.perf_counter())
        except EventTooLongError:
            self._cancel()
            self._end("error")

    def whole(self) -> None:
        """Its end."""
        if not self._streams:
            self._end(outcome_of(self._status))
        else:
            self._end("ok" if self._meter.done and not self._meter.error else "error")

    def failed(self, error: errors.ApiError) -> None:
        """No answer, or none that is whole."""
        self._end("timeout" if error.status == 504 else "error")

    def _cancel(self) -> None:
        if self._question is not None:
            self._question.cancel()

    def _end(self, outcome: ShadowOutcome) -> None:
        if self._over:
            return
        self._over = True
        self._copies.discard(self)
        if self._timeout is not None:
            self._timeout.cancel()
        if outcome == "ok":
            self._metrics.duration.observe(time.perf_counter() - self._begun)
        self._metrics.ended(outcome)
