"""Inbox to handlers: one event after another, in order per key."""

import random
import threading
from typing import Any

from sqlalchemy import Engine, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select
from structlog.contextvars import bound_contextvars

from shared.clock import Clock
from shared.db import on_commit, reading, transaction
from shared.errors import PermanentError
from shared.events import decode
from shared.messaging.handlers import HandlerContext, Handlers
from shared.messaging.headers import load_headers
from shared.messaging.inbox import dead_letter_unhandled
from shared.messaging.metrics import FAILED, HANDLED, begin_handling, watch_inbox
from shared.messaging.retry import after_failure
from shared.messaging.tables import DEAD, DONE, PENDING, Inbox
from shared.telemetry import get_logger, span

log = get_logger(__name__)

# Commits in this process wake the loop at once; this is for retries that become due, and for other replicas.
POLL_SECONDS = 0.5


class ProcessLoop:
    """Calls the handler of the oldest pending event of some key; its effects and the mark "done" commit together."""

    name = "process"

    def __init__(self, *, engine: Engine, handlers: Handlers, clock: Clock) -> None:
        self._engine = engine
        self._handlers = handlers
        self._clock = clock
        self._wake = on_commit(engine)

    def run(self, stop: threading.Event) -> None:
        """Process until `stop`; a database error ends the loop, and with it the process."""
        watch_inbox(self._engine, self._handlers.consumer, self._clock)
        begin_handling(self._handlers.types)
        while not stop.is_set():
            self._wake.clear()
            if not self.step():
                self._wake.wait(POLL_SECONDS)

    def step(self) -> bool:
        """Handle one event that is due; False if there was none."""
        with reading(self._engine) as session:
            if session.exec(self._next()).first() is None:
                return False
        with transaction(self._engine) as session:
            # Between the look and this another replica may have taken it.
            row = session.exec(self._next().with_for_update(skip_locked=True)).first()
            if row is not None:
                self._handle(session, row)
        return True

    def _next(self) -> Any:
        """The oldest due row that has no pending row of the same key before it, due or not."""
        before = aliased(Inbox)
        blocked = (
            select(before.seq)
            .where(
                before.status == PENDING,
                before.consumer == Inbox.consumer,
                before.topic == Inbox.topic,
                before.key == Inbox.key,
                col(before.seq) < col(Inbox.seq),
            )
            .exists()
        )
        due = or_(col(Inbox.next_attempt_at).is_(None), col(Inbox.next_attempt_at) <= self._clock.now())
        return (
            select(Inbox)
            .where(Inbox.status == PENDING, Inbox.consumer == self._handlers.consumer, due, ~blocked)
            .order_by(col(Inbox.seq))
            .limit(1)
        )

    def _handle(self, session: Session, row: Inbox) -> None:
        row.attempts += 1
        session.flush()
        try:
            with session.begin_nested():
                self._call(session, row)
        except Exception as error:  # noqa: BLE001 - a handler's bug must not throw events away
            # In the same transaction as the savepoint: in one of its own, another replica could take the next
            # event of this key in between.
            self._failed(session, row, error)
        else:
            row.status, row.next_attempt_at, row.last_error = DONE, None, None
            HANDLED.labels(row.type).inc()

    def _call(self, session: Session, row: Inbox) -> None:
        handler = self._handlers.get(row.type)
        if handler is None:
            raise PermanentError(f"{row.consumer} has no handler for {row.type} any more")
        event = decode(row.payload, dict(load_headers(row.headers)), row.key.encode())
        with (
            bound_contextvars(correlation_id=event.correlation_id, event_id=event.id, event_type=event.type),
            span(f"handle {event.type}", event.traceparent, key=row.key, attempt=row.attempts),
        ):
            handler(HandlerContext(session=session, clock=self._clock, event=event), event)

    def _failed(self, session: Session, row: Inbox, error: Exception) -> None:
        now = self._clock.now()
        verdict = after_failure(error, attempts=row.attempts, now=now, jitter=random.random())  # noqa: S311
        row.status, row.next_attempt_at = verdict.status, verdict.next_attempt_at
        row.last_error = f"{type(error).__name__}: {error}"
        if verdict.status == DEAD:
            dead_letter_unhandled(session, row, load_headers(row.headers), error, now)
        FAILED.labels(row.type, "dead" if verdict.status == DEAD else "retry").inc()
        log.warning(
            "a handler failed", seq=row.seq, type=row.type, key=row.key, attempts=row.attempts,
            outcome=verdict.status, again_at=str(verdict.next_attempt_at or ""), error=row.last_error,
            exc_info=None if isinstance(error, PermanentError) else error,
        )
