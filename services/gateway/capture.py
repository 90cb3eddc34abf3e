"""Samples of traffic for evaluation and for tomorrow's datasets: drawn by chance, scrubbed, published at most once.

On the event loop a request costs one hash, where its route is captured; the rest is done in the sender's thread. What
does not get to Kafka is dropped and counted, and no request ever waits or fails for it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter

from services.gateway.draw import drawn
from services.gateway.plan import Plan, Target
from services.gateway.record import Record
from services.gateway.sampling import Conversation, NotSampledError, Reason, conversation, scrub
from services.gateway.sender import EventSender, GaveUpError, Parcel
from services.gateway.sse import token_counts
from shared.events import Event, InferenceSampled, RouteCapture
from shared.served_names import version_of

_REASONS = ("queue_full", "kafka", "failed", *get_args(Reason))


class CaptureMetrics:
    """What became of the requests that were drawn."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name = "tuneloop_gateway_capture"
        self.sent = Counter(f"{name}_sent_total", "Samples that Kafka has", registry=registry)
        self._dropped = Counter(f"{name}_dropped_total", "Samples that were lost", ["reason"], registry=registry)
        for reason in _REASONS:
            self._dropped.labels(reason)

    def dropped(self, reason: str) -> None:
        """A request was drawn, and there is no sample of it."""
        self._dropped.labels(reason).inc()


class Capture:
    """Draws requests, and hands what was said to the sender.

    Args:
        plan: gives the plan in effect now.
        answer_bytes: of the raw answer that are kept at most.
    """

    def __init__(
        self, sender: EventSender, metrics: CaptureMetrics, plan: Callable[[], Plan], *, answer_bytes: int
    ) -> None:
        self._sender = sender
        self._metrics = metrics
        self._plan = plan
        self._answer_bytes = answer_bytes

    def keep_bytes(self, request_id: str, target: Target) -> int:
        """How much of the answer to a request that begins is to be kept; 0 where it is not drawn."""
        return self._answer_bytes if self._drawn(request_id, target.route) is not None else 0

    def take(self, record: Record) -> None:
        """A request is over; where it was drawn and went well, its sample is on its way."""
        response = record.response
        if response is None or record.outcome != "ok":
            return
        # Somebody else may have wanted the answer.
        rules = self._drawn(record.request_id, record.route)
        if rules is None:
            return
        if record.truncated:
            self._metrics.dropped("too_large")
            return
        parcel = Parcel(
            lambda: self._event(record, response, rules), size=len(record.request) + len(response), done=self._done
        )
        if not self._sender.offer(parcel):
            self._metrics.dropped("queue_full")

    def _drawn(self, request_id: str, route: str) -> RouteCapture | None:
        """The rules of a route for which a request is drawn; None where it is not."""
        plan = self._plan().routes.get(route)
        rules = plan.spec.capture if plan is not None else None
        return rules if rules is not None and drawn("capture", request_id, rules.share) else None

    def _event(self, record: Record, response: bytes, rules: RouteCapture) -> Event[Any] | None:
        """In the sender's thread."""
        try:
            return sampled(record, response, rules)
        except NotSampledError as error:
            self._metrics.dropped(error.reason)
            return None

    def _done(self, error: Exception | None) -> None:
        if error is None:
            self._metrics.sent.inc()
        else:
            self._metrics.dropped("kafka" if isinstance(error, GaveUpError) else "failed")


def sampled(record: Record, response: bytes, rules: RouteCapture) -> Event[Any]:
    """The sample of a request and its whole answer.

    Raises:
        NotSampledError: there is none, or it is too large.
    """
    said = conversation(record.request, response)
    # Before scrubbing, whose cost goes with the length.
    if sum(len(message.content) for message in said.messages) + len(said.answer) > rules.max_bytes:
        raise NotSampledError("too_large")
    payload = _payload(record, scrub(said) if rules.redact else said)
    if len(payload.model_dump_json().encode()) > rules.max_bytes:
        raise NotSampledError("too_large")
    return Event(
        data=payload, source=InferenceSampled.PRODUCER, time=datetime.fromtimestamp(record.started, UTC),
        correlation_id=record.request_id, sequence=1,
    )


def _payload(record: Record, said: Conversation) -> InferenceSampled:
    prompt, completion = token_counts(record.usage)
    return InferenceSampled(
        request_id=record.request_id, route=record.route, model_version=version_of(record.target.label),
        api=said.api, messages=list(said.messages), answer=said.answer, finish_reason=said.finish_reason,
        unit=f"{record.unit:016x}", streamed=said.streamed, latency_seconds=record.seconds,
        prompt_tokens=prompt or None, completion_tokens=completion or None, redacted=said.redacted,
        surprisal=said.surprisal,
    )
