"""A model of a Kafka broker that keeps records in lists, so that a test can crash a service at any write.

It passes the same contract as the real brokers, as far as `RecordSource` and `RecordSink` go: see tests/contract.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence

from shared.messaging.broker import Outgoing, Record

Hit = Callable[[str], None]


class MemoryBroker:
    """Topics with partitions, and offsets of groups.

    Attributes:
        logs: records by topic and partition.
        refuse: keys whose records are not acknowledged.
        hit: called before and after each write with its name; it may raise.
        late_by: a record whose write was cut off arrives all the same, after this many others; None for never.
    """

    def __init__(self, partitions: int = 2) -> None:
        self.partitions = partitions
        self.logs: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
        self.committed: dict[tuple[str, str, int], int] = {}
        self.refuse: Collection[str] = ()
        self.hit: Hit = lambda _: None
        self.late_by: int | None = None
        self._under_way: list[tuple[int, Outgoing]] = []

    def write(self, record: Outgoing) -> None:
        """Write one record on behalf of a producer that may die at it."""
        try:
            self.hit("before produce")
        except BaseException:
            if self.late_by is not None:
                self._under_way.append((self.late_by, record))
            raise
        self.append(record)
        arrived = [late for countdown, late in self._under_way if countdown == 0]
        self._under_way = [(countdown - 1, late) for countdown, late in self._under_way if countdown > 0]
        for late in arrived:
            self.append(late)
        self.hit("after produce")

    def append(self, record: Outgoing) -> None:
        """Put one record at the end of its partition."""
        partition = zlib.crc32(record.key) % self.partitions
        log = self.logs[record.topic, partition]
        log.append(Record(record.topic, partition, len(log), record.key, record.value, record.headers))

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, in order per partition."""
        return [record for (name, _), log in sorted(self.logs.items()) if name == topic for record in log]

    def source(self, topics: Sequence[str], group: str | None = None) -> "MemorySource":
        """A consumer; the only member of its group."""
        return MemorySource(self, topics, group)

    def sink(self) -> "MemorySink":
        """A producer."""
        return MemorySink(self)


class MemorySource:
    """Reads a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str], group: str | None) -> None:
        self._broker = broker
        self._group = group
        self._positions = {
            (topic, partition): broker.committed.get((group or "", topic, partition), 0)
            for topic in topics
            for partition in range(broker.partitions)
        }

    def poll(self, seconds: float, most: int = 3) -> list[Record]:
        """At most `most` records of each partition, without waiting."""
        batch = []
        for place, position in self._positions.items():
            taken = self._broker.logs[place][position : position + most]
            self._positions[place] = position + len(taken)
            batch += taken
        return batch

    def at_end(self) -> bool:
        """Whether everything has been polled."""
        return all(position == len(self._broker.logs[place]) for place, position in self._positions.items())

    def lag(self) -> Counter[str]:
        """Records by topic that were not polled."""
        return Counter(
            topic for (topic, partition), position in self._positions.items()
            for _ in self._broker.logs[topic, partition][position:]
        )

    def commit(self, records: Sequence[Record]) -> None:
        """Remember the offsets in the broker."""
        self._broker.hit("before offset commit")
        for record in records:
            self._broker.committed[self._group or "", record.topic, record.partition] = record.offset + 1
        self._broker.hit("after offset commit")

    def close(self) -> None:
        """Read no more."""
        self._positions.clear()


class NotAcknowledgedError(Exception):
    """The broker did not take a record."""


class MemorySink:
    """Writes to a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def send(self, records: Sequence[Outgoing]) -> list[Exception | None]:
        """Write the records, except those of refused keys."""
        outcomes: list[Exception | None] = []
        refused = {key.encode() for key in self._broker.refuse}
        for record in records:
            if record.key in refused:
                outcomes.append(NotAcknowledgedError(repr(record.key)))
                continue
            self._broker.write(record)
            outcomes.append(None)
        return outcomes

    def close(self) -> None:
        """Nothing is kept open."""
