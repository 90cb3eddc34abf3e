"""Copies of requests to a version that nobody gets answers from: how it would do, at no risk to anybody.

A copy is sent when the primary's answer is through, so it can neither slow it nor break it. Copies have connections,
breakers, a limit and a timeout of their own; they are never repeated. Their answers are compared with the primary's
(pairs.py), for which what failed is copied as well, and thrown away.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from services.gateway import errors
from services.gateway.balance import Balancer
from services.gateway.checker import ANSWER_BYTES
from services.gateway.draw import drawn
from services.gateway.exchange import outcome_of
from services.gateway.flush import Flusher
from services.gateway.metrics import GatewayMetrics
from services.gateway.pairs import UNANSWERED, Pairs, copied
from services.gateway.plan import Plan, Target
from services.gateway.pool import Pool
from services.gateway.record import Record
from services.gateway.request import Headers, parse
from services.gateway.shadow_metrics import ShadowMetrics, ShadowOutcome
from services.gateway.sse import EventTooLongError, StreamMeter
from services.gateway.timers import Timers
from services.gateway.upstream import HEAD, Order, Question, Upstream
from services.gateway.wire import trace_context


class Shadow:
    """Sends copies. On one event loop.

    Args:
        plan: gives the plan in effect now.
        pairs: told of each copy that a model answered.
        limit: copies at once.
        seconds: for the whole answer to one.
    """

    def __init__(
        self, timers: Timers, flusher: Flusher, balancer: Balancer, metrics: GatewayMetrics,
        plan: Callable[[], Plan], *, pairs: Pairs, limit: int, seconds: float, connect_seconds: float,
    ) -> None:
        self._pairs = pairs
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
        """A request is over: once its answer is on its way, send a copy to the shadows that draw it."""
        route = self._plan().routes.get(record.route)
        if route is None or not copied(record):
            return
        begun = time.perf_counter() - record.seconds
        for target in route.shadows:
            if target.label != record.target.label and drawn("shadow", record.request_id, target.shadow_share):
                # Not now: the last bytes of the primary's answer go out at the end of this turn, the copy in the next.
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self._send, record, target, begun)

    def use(self, plan: Plan) -> None:
        """Forget the health of replicas that are no longer there."""
        self._balancer.keep_only(plan.endpoints())

    def close(self) -> None:
        """Break off everything."""
        for copy in tuple(self.copies):
            copy.expire(judged=False)
        self._pool.close()

    def _send(self, record: Record, target: Target, begun: float) -> None:
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
            head=HEAD % f"{record.request_id}.shadow".encode() + trace_context(record.head),
        )
        judge = partial(self._pairs.judge, record, target, begun)
        copy = _Copy(self.copies, metrics, judge, primary_failed=record.outcome == "error")
        copy.begin(self._upstream, order, self._seconds)


class _Copy:
    """One copy, and what its answer says about the version.

    Args:
        judge: told of its outcome and its answer, unless no model gave it one.
    """

    __slots__ = ("_begun", "_copies", "_judge", "_kept", "_meter", "_metrics", "_over", "_primary_failed", "_question",
                 "_size", "_status", "_streams", "_timeout")

    def __init__(
        self, copies: "set[_Copy]", metrics: ShadowMetrics, judge: Callable[[ShadowOutcome, bytes | None], None],
        *, primary_failed: bool,
    ) -> None:
        self._copies = copies
        self._metrics = metrics
        self._judge = judge
        self._primary_failed = primary_failed
        self._kept: list[bytes] = []
        self._size = 0
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

    def expire(self, *, judged: bool = True) -> None:
        """Its time is over."""
        if not self._over:
            self._cancel()
            self._end("timeout", judged=judged)

    # What the model server says.

    def head(self, status: int, fields: Headers) -> None:
        """The answer begins."""
        self._status = status
        if status == 200 and fields.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            self._streams = True

    def data(self, part: bytes) -> None:
        """A part of it."""
        if self._over:
            return
        self._size += len(part)
        if self._size <= ANSWER_BYTES:
            self._kept.append(part)
        if not self._streams:
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
        self._end("timeout" if error.status == 504 else "error", judged=error.code not in UNANSWERED)

    def _cancel(self) -> None:
        if self._question is not None:
            self._question.cancel()

    def _end(self, outcome: ShadowOutcome, *, judged: bool = True) -> None:
        if self._over:
            return
        if outcome == "rejected" and self._primary_failed:
            # Whether it is the client's fault would be known if the primary had not failed.
            outcome = "unclear"
        self._over = True
        self._copies.discard(self)
        if self._timeout is not None:
            self._timeout.cancel()
        if outcome == "ok":
            self._metrics.duration.observe(time.perf_counter() - self._begun)
        self._metrics.ended(outcome)
        if judged:
            self._judge(outcome, b"".join(self._kept) if self._size <= ANSWER_BYTES else None)
