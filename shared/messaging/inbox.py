"""Storing what was received, exactly once; setting aside what cannot be read or handled."""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel

from shared.events import Event
from shared.messaging.broker import Record
from shared.messaging.headers import Headers, dump_headers
from shared.messaging.tables import PENDING, Inbox, Outbox

DLQ_TYPE = "dead-letter"
_DLQ_IDS = uuid.UUID("6f2f86a5-61b6-4e3f-9d0e-6f0d8f1a2c77")


def store(session: Session, consumer: str, received: Sequence[tuple[Record, Event[Any]]], now: datetime) -> set[str]:
    """Insert the events that this consumer does not have yet.

    Returns:
        the ids of the events that were new.
    """
    rows = [
        {
            "consumer": consumer, "source": event.source, "event_id": event.id, "topic": record.topic,
            "partition": record.partition, "offset": record.offset, "key": event.subject,
            "sequence": event.sequence, "type": event.type, "payload": record.value or b"",
            "headers": dump_headers(record.headers), "received_at": now, "status": PENDING, "attempts": 0,
        }
        for record, event in received
    ]
    return insert_new(session, Inbox, rows, unique=["consumer", "source", "event_id"], returning="event_id")


def insert_new(
    session: Session, model: type[SQLModel], rows: list[dict[str, Any]], *, unique: list[str], returning: str
) -> set[Any]:
    """Insert the rows that do not exist yet, and say which those were.

    By RETURNING and not by a row count, because PostgreSQL's driver answers -1 for such an insert of many rows.
    """
    if not rows:
        return set()
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    table: Any = model.__table__  # type: ignore[attr-defined]
    statement = insert(table).values(rows).on_conflict_do_nothing(index_elements=unique).returning(table.c[returning])
    return set(session.connection().execute(statement).scalars())


def dead_letter_unreadable(session: Session, consumer: str, record: Record, error: Exception, now: datetime) -> None:
    """A dead letter for a record that is not an event of ours, with its bytes as they came.

    Its id is made from the record, because the record is read again after a crash before its offset is committed.
    """
    digest = hashlib.sha256(repr((record.key, record.value, record.headers)).encode()).hexdigest()
    name = f"{consumer}/{record.topic}/{record.partition}/{record.offset}/{digest}"
    row = _dead_letter(
        id_=str(uuid.uuid5(_DLQ_IDS, name)), topic=record.topic, key=_as_text(record.key), value=record.value or b"",
        headers=(
            *record.headers,
            *_origin(consumer, record.topic, record.partition, record.offset, error),
            ("dlq-key", record.key or b""),
        ),
        now=now,
    )
    insert_new(session, Outbox, [row], unique=["id"], returning="id")


def dead_letter_unhandled(
    session: Session, row: Inbox, headers: Headers, error: Exception, now: datetime
) -> None:
    """A dead letter for an event that was given up. It stays in the inbox, from where it can be requeued."""
    values = _dead_letter(
        id_=str(uuid.uuid4()), topic=row.topic, key=row.key, value=row.payload,
        headers=(
            *headers,
            *_origin(row.consumer, row.topic, row.partition, row.offset, error),
            ("dlq-inbox-seq", str(row.seq).encode()),
            ("dlq-attempts", str(row.attempts).encode()),
        ),
        now=now,
    )
    session.add(Outbox(**values))


def _origin(consumer: str, topic: str, partition: int, offset: int, error: Exception) -> Headers:
    facts = {
        "dlq-consumer": consumer, "dlq-topic": topic, "dlq-partition": str(partition), "dlq-offset": str(offset),
        "dlq-error": f"{type(error).__name__}: {error}"[:1000],
    }
    return tuple((name, value.encode()) for name, value in facts.items())


def _dead_letter(*, id_: str, topic: str, key: str, value: bytes, headers: Headers, now: datetime) -> dict[str, Any]:
    return {
        "id": id_, "topic": f"{topic}.dlq", "key": key, "sequence": 0, "type": DLQ_TYPE, "payload": value,
        "headers": dump_headers(headers), "created_at": now,
    }


def _as_text(key: bytes | None) -> str:
    """A key for people and for the partitioner; PostgreSQL's text takes no NUL. The true key is a header."""
    return (key or b"").decode(errors="replace").replace("\0", "\ufffd")
