"""Outbox to Kafka, in order per key, each fact at least once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from sqlalchemy import Engine, text, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from shared.clock import Clock
from shared.db import on_commit, reading, transaction
from shared.messaging.broker import BrokerUnavailableError, KafkaSink, Link, Outgoing, RecordSink
from shared.messaging.headers import load_headers
from shared.messaging.metrics import PUBLISH_FAILED, PUBLISHED, begin_relaying, watch_outbox
from shared.messaging.security import PLAINTEXT, KafkaSecurity
from shared.messaging.tables import Outbox
from shared.telemetry import get_logger

log = get_logger(__name__)

POLL_SECONDS = 0.5
RETRY_SECONDS = 1.0
BATCH = 200
# Any constant will do; one relay per database keeps replicas from publishing everything twice.
_LOCK = 7_305_008_842_511_002


class RelayLoop:
    """Publishes what the outbox has, waits for the acknowledgements, and marks the rows.

    Each round takes the oldest unpublished row of each key. Two rows of one key are never under way together, so a
    failed one cannot be overtaken by its successor.

    Args:
        source: the service's name, as the producer's client id.
        open_sink: makes the sink; Kafka by default.
    """

    name = "relay"

    def __init__(
        self,
        *,
        engine: Engine,
        bootstrap: str,
        clock: Clock,
        source: str,
        security: KafkaSecurity = PLAINTEXT,
        open_sink: Callable[[], RecordSink] | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._source = source
        self._link = Link(self.name)
        self._wake = on_commit(engine)
        self._open = open_sink or (lambda: KafkaSink(bootstrap, f"tuneloop-{source}", security))

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop`; a missing broker is waited for."""
        watch_outbox(self._engine, self._clock)
        begin_relaying(self._source)
        while not stop.is_set():
            with self._only_relay() as mine:
                while mine and not stop.is_set():
                    self._publish(stop)
            if not stop.is_set():
                self._clock.wait(stop, RETRY_SECONDS)

    def _publish(self, stop: threading.Event) -> None:
        """Publish over one connection to the broker, for as long as that works."""
        try:
            with closing(self._open()) as sink:
                self._link.up()
                while not stop.is_set():
                    self._wake.clear()
                    if not self.step(sink):
                        self._wake.wait(POLL_SECONDS)
        except BrokerUnavailableError as error:
            self._link.down(error)
            self._clock.wait(stop, RETRY_SECONDS)

    def step(self, sink: RecordSink) -> int:
        """Publish one round; the number of rows that the broker took.

        Raises:
            BrokerUnavailableError: it did not take some; those it took are marked all the same.
        """
        rows = self._oldest_of_each_key()
        if not rows:
            return 0
        outcomes = sink.send(
            [Outgoing(row.topic, row.key.encode(), row.payload, load_headers(row.headers)) for row in rows]
        )
        taken = [row for row, error in zip(rows, outcomes, strict=True) if error is None]
        if taken:
            with transaction(self._engine) as session:
                session.exec(
                    update(Outbox)
                    .where(col(Outbox.seq).in_([row.seq for row in taken]))
                    .values(published_at=self._clock.now())
                )
        for row in taken:
            PUBLISHED.labels(row.topic).inc()
        refused = [(row, error) for row, error in zip(rows, outcomes, strict=True) if error is not None]
        for row, _ in refused:
            PUBLISH_FAILED.labels(row.topic).inc()
        if refused:
            row, cause = refused[0]
            raise BrokerUnavailableError(
                f"{len(refused)} of {len(rows)} records were not acknowledged; the first is outbox row {row.seq} "
                f"({row.type}, key {row.key!r}, topic {row.topic}): {cause!r}"
            )
        return len(taken)

    def _oldest_of_each_key(self) -> Sequence[Outbox]:
        before = aliased(Outbox)
        preceded = (
            select(before.seq)
            .where(
                col(before.published_at).is_(None),
                before.topic == Outbox.topic,
                before.key == Outbox.key,
                col(before.seq) < col(Outbox.seq),
            )
            .exists()
        )
        statement = (
            select(Outbox)
            .where(col(Outbox.published_at).is_(None), ~preceded)
            .order_by(col(Outbox.seq))
            .limit(BATCH)
        )
        with reading(self._engine) as session:
            return session.exec(statement).all()

    @contextmanager
    def _only_relay(self) -> Iterator[bool]:
        """Whether this is the database's one relay, held for the block. An SQLite file has one process anyway."""
        if self._engine.dialect.name != "postgresql":
            yield True
            return
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            locked = bool(connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar())
            try:
                yield locked
            finally:
                if locked:
                    connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
