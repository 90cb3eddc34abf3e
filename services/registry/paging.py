"""Lists, newest first, in pages that stay right while rows are added."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import and_, or_
from sqlmodel import Session, SQLModel, col, select

from shared.errors import InvalidInputError

T = TypeVar("T", bound=SQLModel)


def newest_first(
    session: Session, model: type[T], *, limit: int, after: str | None, filters: dict[str, Any]
) -> tuple[Sequence[T], str | None]:
    """At most `limit` rows that match, and the cursor of the next page, or None on the last one.

    Args:
        model: a table with the columns ``id`` and ``created_at``.
        after: the cursor of the page before.
        filters: column to value; None matches everything.
    """
    created_at, identity = col(model.created_at), col(model.id)  # type: ignore[attr-defined]
    query = select(model).order_by(created_at.desc(), identity.desc()).limit(limit + 1)
    for column, value in filters.items():
        if value is not None:
            query = query.where(getattr(model, column) == value)
    if after is not None:
        time, last = _read(after)
        query = query.where(or_(created_at < time, and_(created_at == time, identity < last)))
    rows = session.exec(query).all()
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], cursor(rows[limit - 1].created_at, rows[limit - 1].id)  # type: ignore[attr-defined]


def cursor(time: datetime, identity: str) -> str:
    """The opaque text of a place in a list."""
    return base64.urlsafe_b64encode(f"{time.isoformat()}|{identity}".encode()).decode()


def _read(text: str) -> tuple[datetime, str]:
    try:
        time, _, identity = base64.urlsafe_b64decode(text.encode()).decode().partition("|")
        parsed = datetime.fromisoformat(time)
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise InvalidInputError(f"after: {text!r} is not a cursor; use the `next` of the page before") from error
    if parsed.tzinfo is None:
        raise InvalidInputError(f"after: {text!r} is not a cursor; use the `next` of the page before")
    return parsed, identity
