"""What an operator watches: how old the oldest waiting row is, and what became of each event."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge
from sqlalchemy import Engine, func
from sqlmodel import select

from shared.clock import Clock
from shared.db import reading
from shared.events import Topic, payload_types
from shared.gauges import ask
from shared.messaging.broker import RecordSource
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
CONSUMER_LAG = Gauge(
    "tuneloop_consumer_lag_records", "Records that this replica's partitions of a topic hold and that it has not read.",
    ["topic"],
)


def begin_consuming(topics: Iterable[str]) -> None:
    """Let the counters of these topics exist at 0: `increase` does not see a series' first value."""
    for topic in topics:
        for outcome in ("stored", "duplicate", "skipped", "unparseable"):
            CONSUMED.labels(topic, outcome)
        _begin_publishing(Topic(topic).dlq)


def begin_handling(types: Iterable[str]) -> None:
    """The same for the types that have handlers."""
    for type_ in types:
        HANDLED.labels(type_)
        for outcome in ("retry", "dead"):
            FAILED.labels(type_, outcome)


def begin_relaying(producer: str) -> None:
    """The same for the topics of what a service says."""
    for topic in {kind.TOPIC.value for kind in payload_types().values() if producer == kind.PRODUCER}:
        _begin_publishing(topic)


def _begin_publishing(topic: str) -> None:
    PUBLISHED.labels(topic)
    PUBLISH_FAILED.labels(topic)


def show_lag(topics: Iterable[str], source: RecordSource) -> None:
    """How far behind this replica is. A topic whose partitions are all other replicas' counts as 0."""
    lag = source.lag()
    for topic in topics:
        CONSUMER_LAG.labels(topic).set(lag.get(topic, 0))


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

    ask(INBOX_PENDING_AGE, lambda: age(PENDING))
    ask(INBOX_DEAD_AGE, lambda: age(DEAD))
    ask(INBOX_DEAD, dead)


def watch_outbox(engine: Engine, clock: Clock) -> None:
    """The same for the outbox."""

    def age() -> float:
        with reading(engine) as session:
            oldest = session.exec(select(func.min(Outbox.created_at)).where(Outbox.published_at == None)).one()  # noqa: E711
        return (clock.now() - oldest).total_seconds() if oldest else 0.0

    ask(OUTBOX_PENDING_AGE, age)
