"""What table classes are built from."""

from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel


def service_base() -> type[SQLModel]:
    """A fresh base for one service's tables, with its own metadata.

    Several services run in one process in tests; with SQLModel's one global metadata their table names would clash.
    Type checkers cannot follow a class made by a function; where they shall, write the same out:
    ``class Base(SQLModel, registry=registry())``.
    """

    class Base(SQLModel, registry=registry()):
        """Base of the tables of one service."""

    return Base


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware datetimes in UTC, also on SQLite, which has no type for them.

    Naive values are refused: a local time that is taken for UTC moves leases and deadlines by hours.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no timezone; use an aware datetime, such as clock.now()")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
