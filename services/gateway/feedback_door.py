"""The door for feedback: acknowledged only when Kafka has it, so that a 202 is a promise.

Who asked for the answer is known to the gateway that gave it. Where another one took the feedback, this one hears of it
by Kafka (elsewhere.py), and counts the unit.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import errors
from services.gateway.doorkeeper import Admission
from services.gateway.feedback import Answer, Answers, Feedback, event_id, note, parse_feedback, resolve
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan
from services.gateway.sender import EventSender, Parcel
from shared.events import Event, FeedbackReceived
from shared.redact import redact
from shared.served_names import version_of


class FeedbackDoor:
    """``POST /v1/feedback``.

    Args:
        plan: gives the plan in effect now.
        seconds: in which Kafka must have it.
    """

    def __init__(
        self, sender: EventSender, answers: Answers, metrics: GatewayMetrics, plan: Callable[[], Plan],
        admission: Admission, *, seconds: float, now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sender = sender
        self._answers = answers
        self._metrics = metrics
        self._plan = plan
        self._admission = admission
        self._seconds = seconds
        self._now = now

    async def post(self, request: Request) -> Response:
        """Take a feedback in.

        Raises:
            ApiError: it is not, and why.
        """
        caller = self._admission(dict(request.headers.raw))
        feedback = parse_feedback(await request.body())
        answer = resolve(feedback, self._answers, self._plan(), caller)
        digest = feedback.digest()
        if answer.said.get(caller.id) != digest:
            await self._publish(feedback, answer, caller.id)
            if note(answer, caller.id, digest):
                self._metrics.target(answer.route, answer.label).judged(feedback.verdict, feedback.value)
                self._count_unit(answer, feedback.value)
        return JSONResponse(
            {"request_id": feedback.request_id, "route": answer.route, "model_version": answer.label,
             "verdict": feedback.verdict}, status_code=202,
        )

    def heard(self, said: FeedbackReceived) -> None:
        """Some gateway took a feedback in. If it is another's, on an answer of this one, its unit is counted."""
        answer = self._answers.find(said.request_id)
        if said.seen or answer is None or (said.route, said.model_version) != (answer.route, version_of(answer.label)):
            return
        if said.key not in answer.said and note(answer, said.key, ""):
            self._count_unit(answer, said.score)

    def _count_unit(self, answer: Answer, score: float) -> None:
        if answer.asked is not None:
            self._metrics.unit_events.judged(answer.route, answer.label, *answer.asked, bad=score < 0)

    async def _publish(self, feedback: Feedback, answer: Answer, key: str) -> None:
        """Return when Kafka has it.

        Raises:
            ApiError: 503, it does not have it, or not yet.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Exception | None] = loop.create_future()
        scrubbed = self._scrubs(answer.route)
        identity, now = event_id(feedback, key, answer.said.get(key, "")), self._now()

        def done(error: Exception | None) -> None:
            # A process that ends has no loop any more, and nobody who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, outcome, error)

        size = len(feedback.comment) + len(feedback.correction)
        parcel = Parcel(
            lambda: Event(
                data=_payload(feedback, answer, key, scrubbed=scrubbed), source=FeedbackReceived.PRODUCER, time=now,
                correlation_id=feedback.request_id, id=identity,
            ), size=size, done=done,
        )
        if not self._sender.offer(parcel):
            raise errors.feedback_not_kept()
        try:
            error = await asyncio.wait_for(outcome, self._seconds)
        except TimeoutError:
            raise errors.feedback_not_kept() from None
        if error is not None:
            raise errors.feedback_not_kept() from error

    def _scrubs(self, route: str) -> bool:
        """Unless the route's own rules say that nothing is to be scrubbed from what is kept of it."""
        plan = self._plan().routes.get(route)
        rules = plan.spec.capture if plan is not None else None
        return rules is None or rules.redact


def _settle(outcome: asyncio.Future[Exception | None], error: Exception | None) -> None:
    if not outcome.done():
        outcome.set_result(error)


def _payload(feedback: Feedback, answer: Answer, key: str, *, scrubbed: bool) -> FeedbackReceived:
    """In the sender's thread, since scrubbing takes time."""
    comment, correction = feedback.comment, feedback.correction
    if scrubbed:
        comment, correction = redact(comment).text, redact(correction).text
    return FeedbackReceived(
        request_id=feedback.request_id, route=answer.route,
        model_version=version_of(answer.label), score=feedback.value, comment=comment,
        correction=correction, key=key, seen=answer.seen,
    )
