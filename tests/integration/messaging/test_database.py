"""Engines, transactions and migrations on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, select

from shared.db import UtcDateTime, connect, migrate, on_commit, reading, transaction
from tests.support.db import assert_migrations_match, schema_differences


class Base(SQLModel, registry=registry()):
    """Tables of this test."""


class Moment(Base, table=True):
    """A time."""

    id: int | None = Field(default=None, primary_key=True)
    at: datetime | None = Field(default=None, sa_type=UtcDateTime)


INITIAL = '''
from alembic import op
from shared.db import create_messaging_tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_messaging_tables(op)
'''
BROKEN = '''
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    raise RuntimeError("the second statement fails")
'''


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "0001_initial.py").write_text(INITIAL)
    return tmp_path


@pytest.fixture
def empty(engine: Engine) -> Engine:
    """The database without any tables."""
    everything = MetaData()
    everything.reflect(engine)
    everything.drop_all(engine)
    return engine


def test_the_messaging_tables_are_what_the_classes_say(empty: Engine, migrations: Path) -> None:
    migrate(empty, migrations)
    assert schema_differences(empty, MetaData()) == []
    migrate(empty, migrations)


def test_the_helper_for_services_finds_a_missing_table(migrations: Path) -> None:
    assert_migrations_match(migrations, MetaData())
    with pytest.raises(AssertionError, match=r"add_table.*moment"):
        assert_migrations_match(migrations, Base.metadata)


def test_a_migration_that_fails_leaves_nothing(empty: Engine, migrations: Path) -> None:
    migrate(empty, migrations)
    (migrations / "versions" / "0002_broken.py").write_text(BROKEN)
    with pytest.raises(RuntimeError, match="the second statement fails"):
        migrate(empty, migrations)
    assert not inspect(empty).has_table("half")
    with empty.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0001"


def test_a_service_without_migrations_says_so(empty: Engine, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no migrations in .*versions"):
        migrate(empty, tmp_path)


def test_replicas_that_start_together_migrate_once(empty: Engine, migrations: Path) -> None:
    engines = [connect(empty.url.render_as_string(hide_password=False)) for _ in range(3)]

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda engine: migrate(engine, migrations), engines))
    for engine in engines:
        engine.dispose()
    assert len(results) == 3


def test_times_come_back_aware_and_in_utc(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    local = datetime(2026, 3, 29, 3, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with transaction(engine) as session:
        session.add(Moment(at=local))
    with reading(engine) as session:
        (moment,) = session.exec(select(Moment).where(Moment.at == local)).all()
    assert moment.at == local
    assert moment.at is not None
    assert moment.at.tzinfo is UTC


def test_naive_times_are_refused(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with pytest.raises(StatementError, match="has no timezone"), transaction(engine) as session:
        session.add(Moment(at=datetime(2026, 1, 1)))  # noqa: DTZ001 - the point of the test


def test_commits_wake_and_rollbacks_and_looks_do_not(engine: Engine) -> None:
    wake = on_commit(engine)
    with reading(engine) as session:
        session.connection().execute(text("SELECT 1"))
    with pytest.raises(ZeroDivisionError), transaction(engine):
        _ = 1 / 0
    assert not wake.is_set()
    with transaction(engine):
        assert not wake.is_set()
    assert wake.is_set()


def test_writers_wait_for_each_other(engine: Engine) -> None:
    """Read, then write, from many threads: on SQLite this fails at once without an immediate lock."""
    Base.metadata.create_all(engine)
    with transaction(engine) as session:
        session.add(Moment(id=1))

    def count_up() -> None:
        for _ in range(5):
            with transaction(engine) as session:
                row = session.exec(select(Moment).where(Moment.id == 1).with_for_update()).one()
                row.at = (row.at or datetime(2026, 1, 1, tzinfo=UTC)) + timedelta(seconds=1)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as session:
        assert session.get_one(Moment, 1).at == datetime(2026, 1, 1, 0, 0, 20, tzinfo=UTC)


def test_other_databases_are_refused_with_their_name() -> None:
    with pytest.raises(ValueError, match=r"mysql://host/x.*only sqlite and postgresql"):
        connect("mysql://host/x")


def test_a_password_is_not_shown_in_the_error() -> None:
    with pytest.raises(ValueError, match="only sqlite and postgresql") as caught:
        connect("mysql://user:secret@host/x")
    assert "secret" not in str(caught.value)
