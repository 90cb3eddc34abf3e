"""Saying a fact: a row in the outbox, in the transaction that makes it true."""

from typing import Any

from sqlalchemy import func, text
from sqlmodel import Session, select

from shared.clock import Clock
from shared.errors import PermanentError
from shared.events import Event, Payload, encode
from shared.messaging.headers import dump_headers
from shared.messaging.tables import Outbox
from shared.telemetry import current_traceparent

# Brokers take 1 MiB by default; the rest is for headers, and for those of a dead letter.
MAX_VALUE_BYTES = 1_000_000


def emit(
    session: Session,
    payload: Payload,
    *,
    source: str,
    clock: Clock,
    correlation_id: str,
    causation_id: str | None = None,
    traceparent: str | None = None,
) -> Event[Any]:
    """Write a fact into the outbox; the relay publishes it after the commit.

    Args:
        session: of the transaction that makes the fact true.
        source: the service that says it.
        correlation_id: the loop that it belongs to.
        causation_id: the id of the event that led to it, if one did.
        traceparent: the trace to continue; that of the running span by default.

    Raises:
        PermanentError: the payload is larger than a broker takes.
    """
    topic, key = payload.TOPIC.value, payload.subject()
    event = Event(
        data=payload,
        source=source,
        time=clock.now(),
        correlation_id=correlation_id,
        causation_id=causation_id,
        sequence=_next_sequence(session, topic, key),
        traceparent=traceparent or current_traceparent(),
    )
    message = encode(event)
    value = message.value or b""
    if len(value) > MAX_VALUE_BYTES:
        raise PermanentError(
            f"{event.type} about {key!r} is {len(value)} bytes, more than the {MAX_VALUE_BYTES} that a broker takes; "
            "put large content into S3 and its URI into the event"
        )
    session.add(
        Outbox(
            id=event.id, topic=topic, key=key, sequence=event.sequence, type=event.type, payload=value,
            headers=dump_headers(message.headers.items()), created_at=event.time,
        )
    )
    session.flush()
    return event


def _next_sequence(session: Session, topic: str, key: str) -> int:
    """One more than the last fact about this key has.

    On PostgreSQL a lock until the end of the transaction lets facts about one key commit in the order of their
    numbers; on SQLite each transaction has the only write lock from its start.
    """
    if session.get_bind().dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))").bindparams(name=f"{topic}/{key}")
        session.connection().execute(lock)
    last = session.exec(select(func.max(Outbox.sequence)).where(Outbox.topic == topic, Outbox.key == key)).one()
    return (last or 0) + 1
