"""Keeps the route table: reads it from disk, follows Kafka in a thread, tells the event loop, writes it back.

The consumer's thread is the only writer of the table. The event loop gets each new value by a callback and never waits
for Kafka or the disk. Writing has a thread of its own, which writes the newest value only, so that a slow disk neither
delays a rollback nor queues up work.

The topics are read from their beginning, so at first the facts tell history. Until they have been read to their end,
they change nothing that is served: a gateway that starts must not follow last month's canary for a moment.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from services.gateway.store import TableStore
from services.gateway.table import RefusedFactError, RouteTable, apply
from shared.events import Event, Topic
from shared.telemetry import get_logger

log = get_logger(__name__)

TOPICS = (Topic.ROUTES, Topic.ADAPTERS)
_RESTART_SECONDS = 5.0
# A topic that never pauses has no end; after this long its facts count as present.
_HISTORY_SECONDS = 10.0

OnEvent = Callable[[Event[Any]], None]


class Consumer(Protocol):
    """What follows the topics; `shared.messaging.TableConsumer` in production."""

    def run(self, stop: threading.Event) -> None: ...


def follow(make: Callable[[], Consumer], stop: threading.Event, failed: str) -> None:
    """Run a consumer until `stop`. One that fails is made anew a while later, and the log says `failed`."""
    while not stop.is_set():
        try:
            make().run(stop)
        except Exception:
            log.exception(failed)
        stop.wait(_RESTART_SECONDS)


class TableKeeper:
    """Owner of the present route table.

    Args:
        consumer: makes the follower of the topics, given where each event goes and what to call at their end.
        on_change: called from the consumer's thread with each new table.

    Attributes:
        table: the newest one, with history as far as it has been read.
        complete: whether the table is more than nothing: from disk, or from the whole of the topics.
    """

    def __init__(
        self,
        store: TableStore,
        consumer: Callable[[Sequence[str], OnEvent, Callable[[], None]], Consumer],
        on_change: Callable[[RouteTable], None],
    ) -> None:
        self._store = store
        self._make_consumer = consumer
        self._on_change = on_change
        self._stop = threading.Event()
        self._dirty = threading.Event()
        self._threads: list[threading.Thread] = []
        self.table = RouteTable()
        self.complete = False
        self._written = self._given = self.table
        self._history_until: float | None = None
        self._present = False

    def load(self) -> RouteTable:
        """Take up the table from disk."""
        self.table = self._written = self._given = self._store.load()
        self.complete = bool(self.table.routes)
        log.info("route table read from disk", routes=sorted(self.table.routes), replicas=sorted(self.table.replicas))
        return self.table

    def start(self) -> None:
        """Begin to follow Kafka and to write changes."""
        self._threads = [
            threading.Thread(target=self._follow, name="route-table", daemon=True),
            threading.Thread(target=self._write, name="route-table-writer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """End both threads; the last change is on disk when this returns, unless `timeout` seconds pass first."""
        self._stop.set()
        self._dirty.set()
        for thread in self._threads:
            thread.join(timeout)

    def on_event(self, event: Event[Any]) -> None:
        """Take in one fact."""
        try:
            table = apply(self.table, event)
        except RefusedFactError as error:
            log.warning("refused a fact", type=event.type, subject=event.subject, reason=str(error))
            return
        if table is self.table:
            return
        self.table = table
        now = time.monotonic()
        self._history_until = self._history_until or now + _HISTORY_SECONDS
        if self._present or now > self._history_until:
            log.info("route table changed", type=event.type, subject=event.subject)
            self._hand_on()

    def on_caught_up(self) -> None:
        """All that the topics hold has been read."""
        if not self._present:
            log.info("following Kafka", routes=sorted(self.table.routes), replicas=sorted(self.table.replicas))
        self._present = True
        self._hand_on()

    def _hand_on(self) -> None:
        self.complete = True
        if self.table is not self._given:
            self._given = self.table
            self._on_change(self._given)
            self._dirty.set()

    def _follow(self) -> None:
        follow(lambda: self._make_consumer(TOPICS, self.on_event, self.on_caught_up), self._stop,
               "following Kafka failed; the gateway serves its last table and tries again")

    def _write(self) -> None:
        while not self._stop.is_set() or self._given is not self._written:
            self._dirty.wait()
            self._dirty.clear()
            table = self._given
            if table is self._written:
                continue
            try:
                self._store.save(table)
                self._written = table
            except OSError as error:
                log.warning("the route table cannot be written; a restart without Kafka would serve an old one",
                            path=str(self._store.path), error=str(error))
                if self._stop.wait(_RESTART_SECONDS):
                    return
                self._dirty.set()
