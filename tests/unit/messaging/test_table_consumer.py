"""A topic as a table: from the beginning, without repetitions, whatever else lies in it."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from shared.clock import VirtualClock
from shared.events import DatasetPublished, Event
from shared.messaging import TableConsumer
from shared.messaging.broker import BrokerUnavailableError, Outgoing, Record, TableSource
from tests.support.echo import TOPIC_IN, outgoing, published
from tests.support.memory_broker import MemoryBroker


def fact(number: int) -> Event[DatasetPublished]:
    now = VirtualClock().now()
    return Event(data=published("a", number), source="test", time=now, correlation_id="loop")


class EndsAfterwards:
    """A source that stops its reader when there is nothing left."""

    def __init__(self, source: TableSource, stop: threading.Event) -> None:
        self._source = source
        self._stop = stop

    def poll(self, seconds: float) -> list[Record]:
        records = self._source.poll(seconds)
        if not records:
            self._stop.set()
        return records

    def commit(self, records: Sequence[Record]) -> None:
        raise AssertionError("a table has no offsets")

    def at_end(self) -> bool:
        return self._source.at_end()

    def lag(self) -> Mapping[str, int]:
        return self._source.lag()

    def close(self) -> None:
        self._source.close()


def read_all(broker: MemoryBroker, failures: int = 0) -> list[int]:
    stop, numbers, left = threading.Event(), [], [failures]

    def take(event: Event[Any]) -> None:
        numbers.append(int(event.data.name))

    def open_source() -> TableSource:
        if left[0]:
            left[0] -= 1
            raise BrokerUnavailableError("not yet")
        return EndsAfterwards(broker.source([TOPIC_IN]), stop)

    TableConsumer("", [TOPIC_IN], take, clock=VirtualClock(), open_source=open_source).run(stop)
    return numbers


def test_reads_from_the_beginning_each_time() -> None:
    broker = MemoryBroker()
    for number in (1, 2, 3):
        broker.append(outgoing(fact(number)))
    assert read_all(broker) == [1, 2, 3]
    assert read_all(broker) == [1, 2, 3]


def test_drops_what_a_relay_repeated() -> None:
    broker = MemoryBroker()
    first, second = fact(1), fact(2)
    for event in (first, second, first, second):
        broker.append(outgoing(event))
    assert read_all(broker) == [1, 2]


def test_skips_what_is_not_an_event_or_not_known() -> None:
    broker = MemoryBroker()
    broker.append(Outgoing(TOPIC_IN, b"a", b"\xff", ()))
    known = outgoing(fact(1))
    newer = tuple((name, b"dataset.sung.v1" if name == "ce_type" else value) for name, value in known.headers)
    broker.append(Outgoing(TOPIC_IN, b"a", known.value, newer))
    broker.append(known)
    assert read_all(broker) == [1]


def test_waits_for_a_missing_broker() -> None:
    broker = MemoryBroker()
    broker.append(outgoing(fact(1)))
    assert read_all(broker, failures=3) == [1]


def test_says_once_when_all_that_was_there_is_read() -> None:
    broker, stop, heard = MemoryBroker(), threading.Event(), list[str]()
    for number in range(1, 6):
        broker.append(outgoing(fact(number)))

    def caught_up() -> None:
        heard.append("caught up")
        broker.append(outgoing(fact(6)))

    TableConsumer(
        "", [TOPIC_IN], lambda event: heard.append(event.data.name), on_caught_up=caught_up, clock=VirtualClock(),
        open_source=lambda: EndsAfterwards(broker.source([TOPIC_IN]), stop),
    ).run(stop)
    assert heard == ["1", "2", "3", "4", "5", "caught up", "6"]


def test_an_empty_topic_is_read_to_its_end_at_once() -> None:
    stop, heard = threading.Event(), list[str]()
    TableConsumer(
        "", [TOPIC_IN], lambda _: None, on_caught_up=lambda: heard.append("caught up"), clock=VirtualClock(),
        open_source=lambda: EndsAfterwards(MemoryBroker().source([TOPIC_IN]), stop),
    ).run(stop)
    assert heard == ["caught up"]
