"""Checks and tables for tests that need a database."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData

from shared.db import connect, migrate
from shared.messaging.tables import MessagingBase


def assert_migrations_match(migrations: Path, metadata: MetaData) -> None:
    """Fail, naming each difference, where the migrations do not make exactly the service's tables.

    Args:
        migrations: a service's folder with ``versions/``.
        metadata: of the service's own base; inbox and outbox are added here.
    """
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{folder}/migrated.db")
        migrate(engine, migrations)
        differences = schema_differences(engine, metadata)
        engine.dispose()
    assert not differences, "migrations and table classes differ:\n" + "\n".join(str(item) for item in differences)


def schema_differences(engine: Engine, metadata: MetaData) -> list[object]:
    """What a database lacks or has too much of, against `metadata` with inbox and outbox."""
    whole = MetaData()
    for table in (*metadata.sorted_tables, *MessagingBase.metadata.sorted_tables):
        table.to_metadata(whole)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, whole))


@contextmanager
def sqlite_engine(metadata: MetaData | None = None) -> Iterator[Engine]:
    """An SQLite database of its own with inbox, outbox and the tables of `metadata`.

    In memory where the machine has a folder for that: tests commit thousands of times, and each commit waits for
    the disk.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        engine = connect(f"sqlite:///{folder}/test.db")
        create_tables(engine, metadata)
        yield engine
        engine.dispose()


def create_tables(engine: Engine, metadata: MetaData | None = None) -> None:
    """Inbox, outbox and the tables of `metadata`, without migrations; for tests of parts that have none."""
    MessagingBase.metadata.create_all(engine)
    if metadata is not None:
        metadata.create_all(engine)
