"""What kafka-python and a broker must do together, beyond what the loops' interface shows."""

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from shared.clock import monotonic
from shared.messaging.broker import KafkaSink, KafkaSource, Outgoing
from tests.contract.conftest import Broker
from tests.support.wait import eventually


@contextmanager
def reader(broker: Broker, topic: str, **config: Any) -> Iterator[KafkaConsumer]:
    """A consumer of partition 0 without a group."""
    with closing(
        KafkaConsumer(
            bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, **config
        )
    ) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        yield consumer


@contextmanager
def producer(broker: Broker, **config: Any) -> Iterator[KafkaProducer]:
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, **config)) as opened:
        yield opened


def write(broker: Broker, topic: str, *values: bytes) -> None:
    with closing(KafkaSink(broker.bootstrap, "contract")) as sink:
        assert sink.send([Outgoing(topic, b"k", value, ()) for value in values]) == [None] * len(values)


def poll(consumer: KafkaConsumer, seconds: float = 0.2) -> list[bytes | None]:
    return [item.value for batch in consumer.poll(timeout_ms=seconds * 1000).values() for item in batch]


def read(consumer: KafkaConsumer, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []

    def enough() -> bool:
        found.extend(poll(consumer))
        return len(found) >= count

    eventually(enough, what=f"{count} records")
    return found


def test_a_topic_is_made_when_it_is_first_written_to(any_broker: Broker) -> None:
    topic = f"contract.{uuid.uuid4().hex[:12]}"
    write(any_broker, topic, b"1")
    with closing(KafkaSource(any_broker.bootstrap, [topic], group=None)) as source:
        assert [item.value for item in eventually(lambda: source.poll(0.2))] == [b"1"]


class Group:
    """Members of a consumer group, and rounds of records to see who reads what."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._group = f"g-{uuid.uuid4().hex[:8]}"
        self._round = 0
        self.members = [self._member(), self._member()]

    def _member(self) -> KafkaSource:
        return KafkaSource(
            self._broker.bootstrap, [self._topic], group=self._group,
            session_timeout_ms=self._broker.session_timeout_ms,
        )

    def partitions_read(self) -> list[set[int]]:
        """Write one more round of records to both partitions; which ones each member read of it."""
        self._round += 1
        value = str(self._round).encode()
        with closing(KafkaSink(self._broker.bootstrap, "contract")) as sink:
            sink.send([Outgoing(self._topic, key, value, ()) for key in (b"a", b"b", b"c", b"d")])
        read: list[set[int]] = [set() for _ in self.members]
        deadline = monotonic() + 3
        while monotonic() < deadline and set.union(*read) != {0, 1}:
            for member, partitions in zip(self.members, read, strict=True):
                batch = member.poll(0.2)
                member.commit(batch)
                partitions.update(item.partition for item in batch if item.value == value)
        return read


def test_members_share_the_partitions_and_take_over(any_broker: Broker) -> None:
    group = Group(any_broker, any_broker.create_topic(partitions=2))
    try:
        eventually(lambda: sorted(map(sorted, group.partitions_read())) == [[0], [1]])
        group.members.pop().close()
        eventually(lambda: group.partitions_read() == [{0, 1}])
    finally:
        for member in group.members:
            member.close()


def test_a_member_may_leave_in_the_middle_of_joining(any_broker: Broker) -> None:
    topic, group, timeout = any_broker.create_topic(), f"g-{uuid.uuid4().hex[:8]}", any_broker.session_timeout_ms
    write(any_broker, topic, b"1")
    hasty = KafkaConsumer(
        topic, bootstrap_servers=any_broker.bootstrap, group_id=group, session_timeout_ms=timeout,
        heartbeat_interval_ms=timeout // 3,
    )
    hasty.poll(timeout_ms=200)
    hasty.close()
    with closing(KafkaSource(any_broker.bootstrap, [topic], group=group, session_timeout_ms=timeout)) as heir:
        found = eventually(lambda: heir.poll(0.2), timeout=5 * timeout / 1000)
    assert [item.value for item in found] == [b"1"]


def test_a_record_over_the_limit_is_refused_and_the_next_one_passes(any_broker: Broker) -> None:
    topic = any_broker.create_topic()
    with closing(KafkaSink(any_broker.bootstrap, "contract")) as sink:
        too_large, fine = sink.send([Outgoing(topic, b"k", b"x" * 2_000_000, ()), Outgoing(topic, b"k", b"1", ())])
    assert isinstance(too_large, KafkaError)
    assert fine is None


def test_highwater_is_the_end_of_a_partition(any_broker: Broker) -> None:
    topic = any_broker.create_topic()
    write(any_broker, topic, b"1", b"2", b"3")
    with reader(any_broker, topic) as consumer:
        assert read(consumer, 3) == [b"1", b"2", b"3"]
        assert consumer.highwater(TopicPartition(topic, 0)) == 3


def test_end_offsets_count_every_record_of_a_batch(any_broker: Broker) -> None:
    topic = any_broker.create_topic()
    with producer(any_broker, linger_ms=200) as sink:
        for value in (b"1", b"2", b"3"):
            sink.send(topic, value, key=b"k")
        sink.flush(timeout=30)
    place = TopicPartition(topic, 0)
    with reader(any_broker, topic) as consumer:
        assert consumer.end_offsets([place]) == {place: 3}


def test_a_position_can_be_chosen(any_broker: Broker) -> None:
    topic = any_broker.create_topic()
    for value in (b"1", b"2", b"3"):
        write(any_broker, topic, value)
    with reader(any_broker, topic) as consumer:
        consumer.seek(TopicPartition(topic, 0), 1)
        assert read(consumer, 2) == [b"2", b"3"]


def test_a_position_beyond_the_end_is_reset(any_broker: Broker, patience: float) -> None:
    topic = any_broker.create_topic()
    write(any_broker, topic, b"1")
    with reader(any_broker, topic) as consumer:
        consumer.seek(TopicPartition(topic, 0), 100)
        assert eventually(lambda: poll(consumer), timeout=patience) == [b"1"]


def test_a_committed_transaction_is_visible(any_broker: Broker) -> None:
    topic = any_broker.create_topic()
    with producer(any_broker, transactional_id=f"t-{uuid.uuid4().hex[:8]}") as sink:
        sink.init_transactions()
        sink.begin_transaction()
        sink.send(topic, b"1", key=b"k")
        sink.commit_transaction()
    with reader(any_broker, topic, isolation_level="read_committed") as consumer:
        assert read(consumer, 1) == [b"1"]


def test_an_aborted_transaction_is_invisible(any_broker: Broker) -> None:
    topic = any_broker.create_topic()
    with producer(any_broker, transactional_id=f"t-{uuid.uuid4().hex[:8]}") as sink:
        sink.init_transactions()
        sink.begin_transaction()
        sink.send(topic, b"aborted", key=b"k")
        sink.flush(timeout=30)
        sink.abort_transaction()
        sink.begin_transaction()
        sink.send(topic, b"committed", key=b"k")
        sink.flush(timeout=30)
        sink.commit_transaction()
    with reader(any_broker, topic, isolation_level="read_committed") as consumer:
        assert read(consumer, 1) == [b"committed"]


def test_records_can_be_deleted_up_to_an_offset(any_broker: Broker) -> None:
    topic = any_broker.create_topic()
    for value in (b"1", b"2"):
        write(any_broker, topic, value)
    admin = KafkaAdminClient(bootstrap_servers=any_broker.bootstrap)
    try:
        try:
            admin.delete_records({TopicPartition(topic, 0): 1}, timeout_ms=5000)
        except KafkaError as error:
            pytest.fail(f"DeleteRecords: {error!r}")
    finally:
        admin.close()
    with reader(any_broker, topic) as consumer:
        assert read(consumer, 1) == [b"2"]


def test_records_and_offsets_survive_a_restart(any_broker: Broker, patience: float) -> None:
    if any_broker.restart is None:
        pytest.skip("this broker is not ours to restart")
    topic, group = any_broker.create_topic(), f"g-{uuid.uuid4().hex[:8]}"
    write(any_broker, topic, b"1")
    with closing(KafkaSource(any_broker.bootstrap, [topic], group=group, session_timeout_ms=2000)) as source:
        source.commit(eventually(lambda: source.poll(0.2)))
    write(any_broker, topic, b"2")
    any_broker.restart()
    with closing(KafkaSource(any_broker.bootstrap, [topic], group=group, session_timeout_ms=2000)) as source:
        assert [item.value for item in eventually(lambda: source.poll(0.2), timeout=patience)] == [b"2"]
