"""What an operator watches: how old the oldest waiting row is, and what became of each event."""

import math
from collections.abc import Callable

from prometheus_client import Counter, Gauge
from sqlalchemy import Engine, func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from shared.clock import Clock
from shared.db import reading
from shared.messaging.tables import DEAD, PENDING, Inbox, Outbox

CONSUMED = Counter(
    "tuneloop_events_consumed", "Records read from Kafka: stored, duplicate, skipped or unparseable.",
    ["topic", "outcome"],
)
HANDLED = Counter("tuneloop_events_handled", "Events whose effects are committed.", ["type"])
FAILED = Counter("tuneloop_events_failed", "Attempts that failed: retry or dead.", ["type", "outcome"])
PUBLISHED = Counter("tuneloop_events_published", "Records that the broker acknowledged.", ["topic"])
PUBLISH_FAILED = Counter("tuneloop_events_publish_failed", "Records that the broker did not take.", ["topic"])
INBOX_PENDING_AGE = Gauge("tuneloop_inbox_pending_age_seconds", "Age of the oldest event that waits; 0 for none.")
INBOX_DEAD = Gauge("tuneloop_inbox_dead", "Events that were given up and wait for a person.")
INBOX_DEAD_AGE = Gauge("tuneloop_inbox_dead_age_seconds", "Age of the oldest event that was given up; 0 for none.")
OUTBOX_PENDING_AGE = Gauge("tuneloop_outbox_pending_age_seconds", "Age of the oldest unpublished fact; 0 for none.")


def watch_inbox(engine: Engine, consumer: str, clock: Clock) -> None:
    """Let the inbox gauges ask this database at each scrape, so that they are true even when a loop hangs."""

    def age(status: str) -> float:
        with reading(engine) as session:
            oldest = session.exec(
                select(func.min(Inbox.received_at)).where(Inbox.consumer == consumer, Inbox.status == status)
            ).one()
        return (clock.now() - oldest).total_seconds() if oldest else 0.0

    def dead() -> float:
        with reading(engine) as session:
            return session.exec(
                select(func.count()).select_from(Inbox).where(Inbox.consumer == consumer, Inbox.status == DEAD)
            ).one()

    INBOX_PENDING_AGE.set_function(_or_nan(lambda: age(PENDING)))
    INBOX_DEAD_AGE.set_function(_or_nan(lambda: age(DEAD)))
    INBOX_DEAD.set_function(_or_nan(dead))


def watch_outbox(engine: Engine, clock: Clock) -> None:
    """The same for the outbox."""

    def age() -> float:
        with reading(engine) as session:
            oldest = session.exec(select(func.min(Outbox.created_at)).where(Outbox.published_at == None)).one()  # noqa: E711
        return (clock.now() - oldest).total_seconds() if oldest else 0.0

    OUTBOX_PENDING_AGE.set_function(_or_nan(age))


def _or_nan(measure: Callable[[], float]) -> Callable[[], float]:
    """A database that is down must not hide the other metrics of the process."""

    def guarded() -> float:
        try:
            return measure()
        except SQLAlchemyError:
            return math.nan

    return guarded
