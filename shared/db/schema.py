"""The tables that every service's database has, for its first migration.

The same columns stand in shared/messaging/tables.py; a test compares them. They are written out here because a
migration must not change when the classes do.
"""

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Text, UniqueConstraint, text

from shared.db.base import UtcDateTime

# SQLite numbers rows by itself only where the type is exactly INTEGER.
_SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")


def create_messaging_tables(op: Operations) -> None:
    """Create `inbox` and `outbox`; for use in a service's ``0001_initial.py``."""
    op.create_table(
        "inbox",
        Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        Column("consumer", String(), nullable=False),
        Column("source", String(), nullable=False),
        Column("event_id", String(), nullable=False),
        Column("topic", String(), nullable=False),
        Column("partition", Integer(), nullable=False),
        Column("offset", BigInteger(), nullable=False),
        Column("key", String(), nullable=False),
        Column("sequence", BigInteger(), nullable=False),
        Column("type", String(), nullable=False),
        Column("payload", LargeBinary(), nullable=False),
        Column("headers", Text(), nullable=False),
        Column("received_at", UtcDateTime(), nullable=False),
        Column("status", String(), nullable=False),
        Column("attempts", Integer(), nullable=False),
        Column("next_attempt_at", UtcDateTime(), nullable=True),
        Column("last_error", Text(), nullable=True),
        UniqueConstraint("consumer", "source", "event_id", name="inbox_once"),
        Index("inbox_status", "status", "consumer", "topic", "key", "seq"),
    )
    op.create_table(
        "outbox",
        Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        Column("id", String(), nullable=False),
        Column("topic", String(), nullable=False),
        Column("key", String(), nullable=False),
        Column("sequence", BigInteger(), nullable=False),
        Column("type", String(), nullable=False),
        Column("payload", LargeBinary(), nullable=False),
        Column("headers", Text(), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("published_at", UtcDateTime(), nullable=True),
        UniqueConstraint("id", name="outbox_id"),
        # Two facts with one place in an aggregate's history would be a bug; dead letters have no place (0).
        Index(
            "outbox_sequence", "topic", "key", "sequence", unique=True,
            sqlite_where=text("sequence > 0"), postgresql_where=text("sequence > 0"),
        ),
        Index(
            "outbox_unpublished", "topic", "key", "seq",
            sqlite_where=text("published_at IS NULL"), postgresql_where=text("published_at IS NULL"),
        ),
    )
