"""One request and its answer, after its target was chosen: relayed, timed, counted and recorded exactly once.

The first fault decides the outcome. ``ok``: a whole answer of status 2xx. ``rejected``: the client's doing, that is a
4xx of the model server about the request, or the client left. ``error``: everything else.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from services.gateway import errors
from services.gateway.answers import refuses
from services.gateway.call import Call
from services.gateway.record import Observer, Record
from services.gateway.request import Headers
from services.gateway.sse import EventTooLongError, StreamMeter, usage_of
from services.gateway.target_metrics import Outcome, TargetMetrics
from services.gateway.upstream import Order, Question, Upstream
from services.gateway.wire import passed
from shared.telemetry import get_logger

log = get_logger(__name__)

_PASSED_ON = (b"content-type", b"content-encoding", b"cache-control", b"retry-after")
# Statuses that a client of the gateway cannot cause: the gateway chose the path, the model and the credentials.
_NOT_THE_CLIENTS_FAULT = frozenset({401, 403, 404, 405, 407, 408, 429})


def outcome_of(status: int) -> Outcome:
    """What a model server's status means for the model version."""
    if 200 <= status < 300:
        return "ok"
    return "rejected" if 400 <= status < 500 and status not in _NOT_THE_CLIENTS_FAULT else "error"


def _nothing() -> None:
    """What is left to call when an exchange is over: it refers to nobody, so that it is freed without a collector."""


class Exchange:
    """Asks a target for the answer to a call, and relays it.

    Args:
        finished: called once, at the end.
        max_response_bytes: of an answer in one piece.
    """

    __slots__ = ("_begun", "_call", "_finished", "_kept", "_kept_left", "_max_response_bytes", "_meter",
                 "_metrics", "_observer", "_order", "_over", "_parts", "_question", "_recorded", "_refused", "_size",
                 "_status", "_truncated", "_upstream_head", "_upstream_status", "_usage", "_wall")

    def __init__(
        self, order: Order, call: Call, metrics: TargetMetrics, *, finished: Callable[[], None],
        max_response_bytes: int, observer: Observer | None = None,
    ) -> None:
        self._order = order
        self._call = call
        self._metrics = metrics
        self._finished = finished
        self._max_response_bytes = max_response_bytes
        self._observer = observer
        self._begun = time.perf_counter()
        self._wall = 0.0
        self._question: Question | None = None
        self._over = self._truncated = self._refused = self._recorded = False
        self._status: int | None = None
        self._upstream_status = 0
        self._upstream_head = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._meter: StreamMeter | None = None
        self._usage: Mapping[str, Any] | None = None
        self._kept: list[bytes] | None = None
        self._kept_left = 0

    def begin(self, upstream: Upstream) -> None:
        """Ask."""
        if self._observer is not None:
            self._ask_observer(self._observer)
        question = upstream.ask(self._order, self)
        if self._over:
            return
        self._question = question

    # What happens to the client.

    def client_left(self) -> None:
        """Nobody waits for the answer: the model server need not go on."""
        self._cancel()
        self._end("rejected", error="client_left")

    def cut(self, error: errors.ApiError) -> None:
        """The process ends."""
        self._cancel()
        self._fail(error)

    def pause(self) -> None:
        """The client reads too slowly."""
        if self._question is not None and not self._over:
            self._question.pause()

    def resume(self) -> None:
        """The client has caught up."""
        if self._question is not None and not self._over:
            self._question.resume()

    # What the model server says.

    def head(self, status: int, fields: Headers) -> None:
        """The answer begins."""
        self._upstream_status = status
        self._upstream_head = passed(fields, _PASSED_ON)
        if status == 200 and fields.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            self._meter = StreamMeter(self._begun)
            self._status = status
            self._call.begin(status, self._upstream_head + self._ours())

    def data(self, part: bytes) -> None:
        """A part of it."""
        if self._over:
            return
        if self._meter is not None:
            self._stream(self._meter, part)
            return
        self._size += len(part)
        if self._size > self._max_response_bytes:
            self._break_off(f"it is longer than {self._max_response_bytes} bytes")
        else:
            self._parts.append(part)

    def whole(self) -> None:
        """Its end."""
        if self._over:
            return
        if self._meter is None:
            self._answer()
        elif self._meter.done or self._meter.error:
            self._end_stream(self._meter)
        else:
            self.failed(errors.upstream_failed(self._order.target.label, "the stream ended without [DONE]"))

    def failed(self, error: errors.ApiError) -> None:
        """No answer, or none that is whole."""
        if self._over:
            return
        if self._meter is not None and self._meter.done:
            # After [DONE] the client has everything, however the connection ends.
            self._end_stream(self._meter)
        else:
            self._fail(error)

    # Inside.

    def _answer(self) -> None:
        """An answer in one piece, held until it is whole so that a broken one becomes a proper error."""
        status = self._upstream_status
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if 300 <= status < 400:
            label = self._order.target.label
            self._fail(errors.upstream_failed(label, f"it answered with a redirect ({status})"))
            return
        outcome = outcome_of(status)
        if outcome == "ok":
            self._metrics.answered(self._order.unit, self._begun, time.perf_counter() - self._begun)
            self._use(usage_of(body))
        self._status = status
        self._keep(body)
        self._end(outcome)
        self._call.respond(status, self._upstream_head + self._ours(), body)

    def _stream(self, meter: StreamMeter, part: bytes) -> None:
        """Server-sent events, passed on as they come."""
        begins = meter.first_token is None
        try:
            whole, gap, gaps = meter.feed(part, time.perf_counter())
        except EventTooLongError as error:
            self._break_off(str(error))
            return
        if gaps:
            self._metrics.inter_token.observe(gap, gaps)
        if begins and meter.first_token is not None:
            self._metrics.first_output(self._order.unit, self._begun, meter.first_token)
        if whole:
            self._keep(whole)
            self._call.write(whole)

    def _end_stream(self, meter: StreamMeter) -> None:
        self._use(meter.usage)
        if meter.error:
            log.warning("the model server reported an error in its stream", request=self._call.identity,
                        route=self._order.target.route, model=self._order.target.label, reason=meter.error[:500])
            self._end("error", error="in_stream")
        else:
            self._metrics.answered(self._order.unit, self._begun, time.perf_counter() - self._begun)
            if (gap := meter.mean_gap) is not None:
                self._metrics.paced(self._order.unit, self._begun, gap)
            self._end("ok")
        self._call.end()

    def _break_off(self, reason: str) -> None:
        self._cancel()
        self._fail(errors.upstream_failed(self._order.target.label, reason))

    def _cancel(self) -> None:
        if self._question is not None and not self._over:
            self._question.cancel()

    def _fail(self, error: errors.ApiError) -> None:
        """Count it, and let the client know in whichever way is left: an answer, or an event in the stream."""
        target = self._order.target
        log.warning("request failed", request=self._call.identity, route=target.route, model=target.label,
                    code=error.code, reason=str(error))
        begun = self._call.begun
        self._status = self._status or error.status
        self._end("error", error=error.code)
        if begun:
            self._call.write(error.sse())
            self._call.end()
        else:
            self._call.respond_error(error, self._ours())

    def _end(self, outcome: Outcome, *, error: str = "") -> None:
        """The one place where an exchange ends."""
        self._over = True
        self._metrics.ended(outcome)
        if outcome == "ok":
            self._metrics.given(self._order.unit, self._begun, refused=self._refused)
        elif outcome == "error":
            self._metrics.failed(self._order.unit, self._begun)
        finished, self._finished, self._question = self._finished, _nothing, None
        finished()
        observer, status = self._observer, self._status
        if observer is None:
            return
        try:
            if status is not None:
                observer.answered(self._call.identity, self._order.target, self._order.unit, self._begun)
            if self._recorded:
                observer.finished(self._record(outcome, error))
        except Exception:
            log.exception("the observer failed at the end of an exchange", request=self._call.identity)

    def _ours(self) -> bytes:
        return b"x-tuneloop-model-version: %b\r\n%b" % (self._order.target.label.encode(), self._call.mark)

    def _use(self, usage: Any) -> None:
        self._metrics.used(usage)
        self._usage = usage if isinstance(usage, dict) else None

    def _keep(self, data: bytes) -> None:
        if refuses(data):
            self._refused = True
        if self._kept is None:
            return
        self._truncated = self._truncated or len(data) > self._kept_left
        self._kept.append(data[: self._kept_left])
        self._kept_left -= len(self._kept[-1])

    def _ask_observer(self, observer: Observer) -> None:
        order = self._order
        try:
            wanted = observer.wants(self._call.identity, order.target, order.request)
        except Exception:
            log.exception("the observer failed at the beginning of an exchange", request=self._call.identity)
            return
        if wanted is not None:
            self._recorded = True
            self._wall = time.time()
            self._kept, self._kept_left = [] if wanted else None, wanted

    def _record(self, outcome: Outcome, error: str) -> Record:
        order = self._order
        return Record(
            request_id=self._call.identity, unit=order.unit, route=order.target.route, target=order.target,
            path=order.path, request=order.request, status=self._status, outcome=outcome, error=error,
            started=self._wall, seconds=time.perf_counter() - self._begun,
            first_token=self._meter.first_token if self._meter is not None else None,
            usage=self._usage, response=None if self._kept is None else b"".join(self._kept),
            truncated=self._truncated, refused=self._refused, head=order.head,
        )
