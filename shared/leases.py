"""Leases on rows, with fencing: at most one owner's conclusions ever reach a row.

An owner claims a row by raising its epoch, and everything it later writes names that epoch. An owner that was paused,
cut off or taken for dead may come back and write: its epoch is old by then, the write changes no row, and its result
is dropped. So a lease is an optimisation against double work; the epoch is what keeps it correct (Kleppmann, "How to
do distributed locking", 2016).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Update, bindparam, case, inspect, or_, update
from sqlmodel import Field, Session, SQLModel, col, select

from shared.db import UtcDateTime


class LeasedRow(SQLModel):
    """What a table adds to be worked on under leases: ``class Run(LeasedRow, Base, table=True)``.

    Attributes:
        state: where the row is in its life; a loop works on some states and leaves the others alone.
        generation: counts the changes, for readers.
        lease_epoch: counts the claims; what an owner writes must name the newest.
        lease_until: the owner is silent for too long after this.
        next_look_at: not due before this time; None means due at once.
    """

    id: str = Field(primary_key=True)
    state: str
    generation: int = 0
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    next_look_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


Row = TypeVar("Row", bound=LeasedRow)
# What `apply` may write along with an owner's conclusions when these end its work on the row.
FREE: dict[str, Any] = {"lease_owner": None, "lease_until": None}


@dataclass(frozen=True)
class Lease:
    """The right to change one row, for as long as its epoch is the row's newest."""

    row_id: str
    owner: str
    epoch: int


def due(model: type[Row], states: Sequence[str], now: datetime, limit: int = 1) -> Any:
    """The query for rows to claim, the longest waiting first."""
    return (
        select(model)
        .where(
            col(model.state).in_(states),
            or_(col(model.next_look_at).is_(None), col(model.next_look_at) <= now),
            or_(col(model.lease_until).is_(None), col(model.lease_until) <= now),
        )
        .order_by(col(model.next_look_at).nulls_first(), col(model.id))
        .limit(limit)
    )


def claim(
    session: Session, model: type[Row], *, states: Sequence[str], owner: str, now: datetime, ttl: timedelta
) -> tuple[Row, Lease] | None:
    """Take a row that is due and that nobody holds; None if there is none."""
    claimed = claim_many(session, model, states=states, owner=owner, now=now, ttl=ttl, limit=1)
    return claimed[0] if claimed else None


def claim_many(
    session: Session, model: type[Row], *, states: Sequence[str], owner: str, now: datetime, ttl: timedelta, limit: int
) -> list[tuple[Row, Lease]]:
    """Take up to `limit` rows that are due and that nobody holds, the longest waiting first."""
    rows: list[Row] = list(session.exec(due(model, states, now, limit).with_for_update(skip_locked=True)))
    for row in rows:
        row.lease_owner, row.lease_epoch, row.lease_until = owner, row.lease_epoch + 1, now + ttl
    session.flush()
    return [(row, Lease(row_id=row.id, owner=owner, epoch=row.lease_epoch)) for row in rows]


def renew(session: Session, model: type[LeasedRow], lease: Lease, *, now: datetime, ttl: timedelta) -> bool:
    """Keep the lease for another `ttl`; False if it is lost."""
    return _changed(session, _fenced(model, lease).where(_owned(model, lease)).values(lease_until=now + ttl))


def release(
    session: Session, model: type[LeasedRow], lease: Lease, *,
    unless_moved: tuple[datetime | None, datetime] | None = None,
) -> bool:
    """Give the row back; False if it was lost already.

    Args:
        unless_moved: the `next_look_at` that the row had when claimed, and the one that it gets if it has it still.
    """
    values = dict(FREE)
    if unless_moved is not None:
        was, later = unless_moved
        column = col(model.next_look_at)
        values["next_look_at"] = case((column.is_not_distinct_from(was), later), else_=column)
    return _changed(session, _fenced(model, lease).where(_owned(model, lease)).values(values))


def apply(session: Session, model: type[LeasedRow], lease: Lease, **values: Any) -> bool:
    """Write what the owner concluded; False if the lease is stale: then drop the result, and emit nothing.

    Example::

        with transaction(engine) as session:
            if apply(session, Run, lease, state="running", next_look_at=clock.now() + interval):
                emit(session, TrainingStarted(...), ...)
    """
    applied = _write(session, model, [(lease, values)]) == 1
    known = session.identity_map.get(inspect(model).identity_key_from_primary_key((lease.row_id,)))
    if applied and known is not None:
        session.refresh(known)
    return applied


def apply_all(session: Session, model: type[LeasedRow], concluded: Sequence[tuple[Lease, dict[str, Any]]]) -> bool:
    """The same for many rows in one statement, each with the same columns; False if any of the leases is stale.

    Then some of them may have been written: roll back, and `apply` one by one. The session must not have read the rows.
    """
    # In the order in which everybody locks many rows, or two transactions might wait for each other.
    return _write(session, model, sorted(concluded, key=lambda each: each[0].row_id)) == len(concluded)


def _write(session: Session, model: type[LeasedRow], concluded: Sequence[tuple[Lease, dict[str, Any]]]) -> int:
    """How many rows were changed.

    Every look of every loop ends here, and building an update for the mapper each time costs more than running it: so
    there is one statement per model on its table, which the engine compiles once for each set of columns.
    """
    session.flush()
    rows = [{**values, "of_id": lease.row_id, "of_epoch": lease.epoch} for lease, values in concluded]
    return session.connection().execute(_conclusion(model), rows).rowcount


@cache
def _conclusion(model: type[LeasedRow]) -> Update:
    """The fenced write of whatever columns it is executed with."""
    table = inspect(model).local_table
    fence = (table.c.id == bindparam("of_id"), table.c.lease_epoch == bindparam("of_epoch"))
    return update(table).where(*fence).values(generation=table.c.generation + 1)


def interrupt(session: Session, model: type[LeasedRow], row_id: str, **values: Any) -> bool:
    """Change a row without a lease, for APIs and handlers; False if there is no such row.

    Whoever works on the row at this moment concluded from its older state: its lease becomes stale, so that its
    result cannot undo this change, and the row is due at once unless `values` say otherwise.
    """
    statement = update(model).where(col(model.id) == row_id)
    return _changed(
        session,
        statement.values(
            **{**FREE, "next_look_at": None, **values},
            lease_epoch=col(model.lease_epoch) + 1, generation=col(model.generation) + 1,
        ),
    )


def _fenced(model: type[LeasedRow], lease: Lease) -> Update:
    return update(model).where(col(model.id) == lease.row_id, col(model.lease_epoch) == lease.epoch)


def _owned(model: type[LeasedRow], lease: Lease) -> Any:
    return col(model.lease_owner) == lease.owner


def _changed(session: Session, statement: Update) -> bool:
    return session.exec(statement).rowcount == 1
