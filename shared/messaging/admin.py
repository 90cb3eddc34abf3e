"""What an operator does with the inbox: look, and let a dead event be handled again."""

from datetime import datetime
from typing import get_args

from pydantic import BaseModel
from sqlmodel import Session, col, select

from shared.errors import ConflictError, InvalidInputError, NotFoundError
from shared.messaging.tables import DEAD, PENDING, Inbox, Status


class InboxItem(BaseModel):
    """An event in the inbox, for people."""

    seq: int
    consumer: str
    source: str
    event_id: str
    type: str
    topic: str
    partition: int
    offset: int
    key: str
    sequence: int
    status: str
    attempts: int
    received_at: datetime
    next_attempt_at: datetime | None
    last_error: str | None
    payload: str


def list_inbox(session: Session, status: str, limit: int = 100) -> list[InboxItem]:
    """The oldest events with a status: ``pending``, ``done`` or ``dead``."""
    if status not in get_args(Status):
        raise InvalidInputError(f"unknown inbox status {status!r}; use one of {', '.join(get_args(Status))}")
    rows = session.exec(select(Inbox).where(Inbox.status == status).order_by(col(Inbox.seq)).limit(limit))
    return [_for_people(row) for row in rows]


def _for_people(row: Inbox) -> InboxItem:
    return InboxItem.model_validate(
        {**row.model_dump(exclude={"payload", "headers"}), "payload": row.payload.decode(errors="replace")}
    )


def requeue(session: Session, seq: int) -> None:
    """Let a dead event be handled again with fresh attempts; a pending one, at once.

    It comes before the later events of its key that still wait; those that were handled meanwhile stay handled.

    Raises:
        NotFoundError: there is no such event.
        ConflictError: it has been handled.
    """
    row = session.exec(select(Inbox).where(Inbox.seq == seq).with_for_update()).first()
    if row is None:
        raise NotFoundError(f"no event {seq} in the inbox")
    if row.status not in {DEAD, PENDING}:
        raise ConflictError(f"event {seq} ({row.type}, key {row.key!r}) is {row.status}; it cannot be handled again")
    row.status, row.attempts, row.next_attempt_at = PENDING, 0, None
