"""Kafka to inbox. It takes milliseconds per batch, whatever the handlers do, so the group never rebalances for them."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Engine

from shared.clock import Clock
from shared.db import transaction
from shared.events import Event, MalformedEventError, UnknownEventTypeError, decode, payload_types
from shared.messaging.broker import BrokerUnavailableError, KafkaSource, Link, Record, RecordSource
from shared.messaging.handlers import Handlers
from shared.messaging.inbox import dead_letter_unreadable, store
from shared.messaging.metrics import CONSUMED, begin_consuming, show_lag
from shared.messaging.security import PLAINTEXT, KafkaSecurity
from shared.telemetry import get_logger

log = get_logger(__name__)

POLL_SECONDS = 0.5
RETRY_SECONDS = 1.0


class ConsumeLoop:
    """Reads the topics of a service's handlers into its inbox, and commits offsets after the database.

    Args:
        group: consumer group; its members share the partitions.
        session_timeout_ms: how long a silent member keeps its partitions.
        open_source: makes the source; Kafka by default.
    """

    name = "consume"

    def __init__(
        self,
        *,
        engine: Engine,
        handlers: Handlers,
        bootstrap: str,
        group: str,
        clock: Clock,
        session_timeout_ms: int = 10_000,
        security: KafkaSecurity = PLAINTEXT,
        open_source: Callable[[], RecordSource] | None = None,
    ) -> None:
        self._engine = engine
        self._handlers = handlers
        self._clock = clock
        self._link = Link(self.name)
        self._open = open_source or (
            lambda: KafkaSource(
                bootstrap, handlers.topics, group=group, session_timeout_ms=session_timeout_ms, security=security
            )
        )

    def run(self, stop: threading.Event) -> None:
        """Consume until `stop`; a missing broker is waited for."""
        begin_consuming(self._handlers.topics)
        while not stop.is_set():
            try:
                with closing(self._open()) as source:
                    self._link.up()
                    while not stop.is_set():
                        self.step(source)
            except BrokerUnavailableError as error:
                self._link.down(error)
                self._clock.wait(stop, RETRY_SECONDS)

    def step(self, source: RecordSource) -> int:
        """Take one batch; the number of records in it."""
        records = source.poll(POLL_SECONDS)
        if records:
            self._store(records)
            source.commit(records)
        show_lag(self._handlers.topics, source)
        return len(records)

    def _store(self, records: Sequence[Record]) -> None:
        now = self._clock.now()
        events: list[tuple[Record, Event[Any]]] = []
        unreadable: list[tuple[Record, Exception]] = []
        for record in records:
            try:
                event = self._read(record)
            except MalformedEventError as error:
                unreadable.append((record, error))
                continue
            if event is None:
                CONSUMED.labels(record.topic, "skipped").inc()
            else:
                events.append((record, event))
        if not events and not unreadable:
            return
        with transaction(self._engine) as session:
            new = store(session, self._handlers.consumer, events, now)
            for record, cause in unreadable:
                dead_letter_unreadable(session, self._handlers.consumer, record, cause, now)
        for record, event in events:
            CONSUMED.labels(record.topic, "stored" if event.id in new else "duplicate").inc()
        for record, cause in unreadable:
            CONSUMED.labels(record.topic, "unparseable").inc()
            log.error(
                "a record is not an event; it went to the dead-letter topic", topic=record.topic,
                partition=record.partition, offset=record.offset, error=str(cause),
            )

    def _read(self, record: Record) -> Event[Any] | None:
        """The event, or None where this service does not act on it."""
        headers = dict(record.headers)
        type_ = headers.get("ce_type", b"").decode(errors="replace")
        if type_ in payload_types() and self._handlers.get(type_) is None:
            return None
        try:
            return decode(record.value, headers, record.key)
        except UnknownEventTypeError:
            # A newer producer says more than we know; that is how versions roll out.
            return None
