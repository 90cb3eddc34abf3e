"""Connections and transactions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlmodel import Session

BUSY_TIMEOUT_SECONDS = 30
_READING = "tuneloop_reading"

_listeners: WeakKeyDictionary[Engine, WeakSet[threading.Event]] = WeakKeyDictionary()
_listeners_lock = threading.Lock()


def connect(url: str) -> Engine:
    """The engine for a database URL: ``sqlite:///path.db`` or ``postgresql://user@host/name``.

    Connections are made when they are first used, so this does not fail where the server is down.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        return _sqlite(create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_SECONDS}))
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    raise ValueError(f"database URL {parsed.render_as_string()!r}: only sqlite and postgresql are supported")


def _sqlite(engine: Engine) -> Engine:
    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # Python's sqlite3 would open transactions late and by itself, which breaks savepoints.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # FULL, because offsets are committed to Kafka after the database: a commit that a power cut
        # takes back would lose the events before that offset.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at once when somebody else wrote in between;
        # taking the write lock at the start waits for it instead.
        only_reads = connection.get_execution_options().get(_READING)
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One database transaction: committed when the block ends, rolled back when it raises.

    No network I/O inside: on SQLite this holds the only write lock, on PostgreSQL it holds rows.
    Objects stay readable after the block.
    """
    with Session(engine, expire_on_commit=False) as session:
        yield session
        session.commit()
    _notify(engine)


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that only looks: it waits for no writer and wakes nobody. What it writes is rolled back."""
    with Session(engine.execution_options(**{_READING: True}), expire_on_commit=False) as session:
        yield session


def on_commit(engine: Engine) -> threading.Event:
    """An event that is set after each `transaction` on `engine` in this process, so that loops need not poll fast.

    The caller clears it, and keeps it: listeners are forgotten with their last reference.
    """
    wake = threading.Event()
    with _listeners_lock:
        _listeners.setdefault(engine, WeakSet()).add(wake)
    return wake


def _notify(engine: Engine) -> None:
    with _listeners_lock:
        wakes = list(_listeners.get(engine, ()))
    for wake in wakes:
        wake.set()
