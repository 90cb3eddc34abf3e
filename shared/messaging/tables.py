"""Inbox and outbox: what was received and not yet handled, what happened and is not yet told."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.db import UtcDateTime

_SEQUENCE: Any = BigInteger().with_variant(Integer(), "sqlite")

Status = Literal["pending", "done", "dead"]
PENDING: Status = "pending"
DONE: Status = "done"
DEAD: Status = "dead"


class MessagingBase(SQLModel, registry=registry()):
    """Base of the two tables, with metadata of their own, because every service's database has them."""


class Inbox(MessagingBase, table=True):
    """A received event. `(consumer, source, event_id)` is unique, so that receiving it twice changes nothing.

    Attributes:
        seq: the order of arrival, which per key is the order of the broker.
        payload: the record's value as it came; `headers` too, written by `shared.messaging.headers`.
        status: ``pending`` until the handler's effects are committed with it (``done``) or it is given up (``dead``).
        next_attempt_at: not before this time; None means at once.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("consumer", "source", "event_id", name="inbox_once"),
        Index("inbox_status", "status", "consumer", "topic", "key", "seq"),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=_SEQUENCE)
    consumer: str
    source: str
    event_id: str
    topic: str
    partition: int
    offset: int = Field(sa_type=BigInteger)
    key: str
    sequence: int = Field(sa_type=BigInteger)
    type: str
    payload: bytes = Field(sa_type=LargeBinary)
    headers: str = Field(sa_type=Text)
    received_at: datetime = Field(sa_type=UtcDateTime)
    status: str = PENDING
    attempts: int = 0
    next_attempt_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_error: str | None = Field(default=None, sa_type=Text)


class Outbox(MessagingBase, table=True):
    """A fact that was committed with what made it true; the relay publishes it afterwards.

    Attributes:
        seq: the order of publication within a key.
        sequence: position among the facts about this key, from 1; 0 for dead letters, which have none.
        published_at: when the broker acknowledged it. The relay looks for NULL here, never past a cursor: rows
            commit out of the order of their numbers, and a cursor would jump over the late ones.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("id", name="outbox_id"),
        Index(
            "outbox_sequence", "topic", "key", "sequence", unique=True,
            sqlite_where=text("sequence > 0"), postgresql_where=text("sequence > 0"),
        ),
        Index(
            "outbox_unpublished", "topic", "key", "seq",
            sqlite_where=text("published_at IS NULL"), postgresql_where=text("published_at IS NULL"),
        ),
    )

    seq: int | None = Field(default=None, primary_key=True, sa_type=_SEQUENCE)
    id: str
    topic: str
    key: str
    sequence: int = Field(sa_type=BigInteger)
    type: str
    payload: bytes = Field(sa_type=LargeBinary)
    headers: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    published_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
