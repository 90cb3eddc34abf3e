"""Facts for a process without a database: the whole topic is its table, read anew at each start, or its news."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from shared.clock import Clock, SystemClock
from shared.events import Event, MalformedEventError, UnknownEventTypeError, decode
from shared.messaging.broker import BrokerUnavailableError, KafkaSource, Link, Record, TableSource
from shared.messaging.consume import POLL_SECONDS, RETRY_SECONDS
from shared.messaging.security import PLAINTEXT, KafkaSecurity
from shared.telemetry import get_logger

log = get_logger(__name__)

# The relay repeats itself within seconds of a crash; older repetitions come only from reading the topic anew.
REMEMBERED_IDS = 10_000


class TableConsumer:
    """Calls `on_event` for each event of some topics, from their beginning (if not only the `newest`), then for each
    new one.

    There is no group and no offset: after a restart, of this process or of the connection, all of it comes again.
    So `on_event` must be idempotent; the newest fact about a key comes last. What it raises ends the loop.

    Args:
        newest: leave out what was there before; what is written while there is no connection is left out, too.
        on_caught_up: called once per connection, when all that was there has been read, even if that is nothing.
    """

    name = "table"

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        on_event: Callable[[Event[Any]], None],
        *,
        newest: bool = False,
        on_caught_up: Callable[[], None] | None = None,
        clock: Clock | None = None,
        security: KafkaSecurity = PLAINTEXT,
        open_source: Callable[[], TableSource] | None = None,
    ) -> None:
        self._on_event = on_event
        self._on_caught_up = on_caught_up
        self._clock = clock or SystemClock()
        self._link = Link(self.name)
        self._open = open_source or (
            lambda: KafkaSource(bootstrap, topics, group=None, security=security, newest=newest)
        )

    def run(self, stop: threading.Event) -> None:
        """Read until `stop`; a missing broker is waited for."""
        while not stop.is_set():
            try:
                with closing(self._open()) as source:
                    self._link.up()
                    self._read(source, stop)
            except BrokerUnavailableError as error:
                self._link.down(error)
                self._clock.wait(stop, RETRY_SECONDS)

    def _read(self, source: TableSource, stop: threading.Event) -> None:
        seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        caught_up = False
        while not stop.is_set():
            for record in source.poll(POLL_SECONDS):
                event = _decoded(record)
                if event is None or (event.source, event.id) in seen:
                    continue
                self._on_event(event)
                seen[event.source, event.id] = None
                if len(seen) > REMEMBERED_IDS:
                    seen.popitem(last=False)
            if self._on_caught_up is not None and not caught_up and source.at_end():
                caught_up = True
                self._on_caught_up()


def _decoded(record: Record) -> Event[Any] | None:
    try:
        return decode(record.value, dict(record.headers), record.key)
    except UnknownEventTypeError:
        return None
    except MalformedEventError as error:
        log.warning(
            "skipped a record that is not an event", topic=record.topic, partition=record.partition,
            offset=record.offset, error=str(error),
        )
        return None
