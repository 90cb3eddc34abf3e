"""Outbox to Kafka: order per key, acknowledgements, sequence numbers."""

import threading
from contextlib import suppress

import pytest
from sqlalchemy import Engine, text, update
from sqlmodel import col

from shared.clock import VirtualClock
from shared.db import transaction
from shared.errors import PermanentError
from shared.events import DatasetPublished, decode
from shared.messaging import Outbox, RelayLoop, emit
from shared.messaging.broker import BrokerUnavailableError
from tests.support.echo import TOPIC_IN, published, tell, unpublished
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def relay(engine: Engine, clock: VirtualClock) -> RelayLoop:
    return RelayLoop(engine=engine, bootstrap="", clock=clock, source="test")


def numbers(broker: MemoryBroker) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for record in broker.records(TOPIC_IN):
        event = decode(record.value, dict(record.headers), record.key)
        assert event.sequence == int(event.data.name)
        found.setdefault(event.subject, []).append(event.sequence)
    return found


def test_publishes_in_order_and_marks(
    engine: Engine, clock: VirtualClock, relay: RelayLoop, memory_broker: MemoryBroker
) -> None:
    tell(engine, clock, [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)])
    sink = memory_broker.sink()
    assert [relay.step(sink) for _ in range(4)] == [2, 2, 1, 0]
    assert numbers(memory_broker) == {"a": [1, 2, 3], "b": [1, 2]}
    assert unpublished(engine) == 0


def test_a_refused_record_holds_up_its_key_and_no_other(
    engine: Engine, clock: VirtualClock, relay: RelayLoop, memory_broker: MemoryBroker
) -> None:
    tell(engine, clock, [("a", 1), ("b", 1), ("a", 2), ("b", 2)])
    memory_broker.refuse = {"a"}
    sink = memory_broker.sink()
    for _ in range(3):
        with pytest.raises(BrokerUnavailableError, match=r"outbox row 1 \(dataset\.published\.v1, key 'a'"):
            relay.step(sink)
    assert numbers(memory_broker) == {"b": [1, 2]}
    memory_broker.refuse = ()
    while relay.step(sink):
        pass
    assert numbers(memory_broker) == {"a": [1, 2], "b": [1, 2]}


def test_rows_that_commit_late_are_not_jumped_over(
    engine: Engine, clock: VirtualClock, relay: RelayLoop, memory_broker: MemoryBroker
) -> None:
    tell(engine, clock, [("a", 1), ("b", 1)])
    with transaction(engine) as session:
        session.exec(update(Outbox).where(col(Outbox.key) == "a").values(published_at=clock.now()))
    sink = memory_broker.sink()
    relay.step(sink)
    with transaction(engine) as session:
        session.exec(update(Outbox).where(col(Outbox.key) == "a").values(published_at=None))
    relay.step(sink)
    assert numbers(memory_broker) == {"a": [1], "b": [1]}


def test_facts_about_one_key_are_numbered_without_gaps_from_many_threads(engine: Engine, clock: VirtualClock) -> None:
    def say() -> None:
        for _ in range(5):
            with transaction(engine) as session:
                emit(session, published("a", 1), source="test", clock=clock, correlation_id="loop")

    threads = [threading.Thread(target=say) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        found = connection.execute(text("SELECT sequence FROM outbox ORDER BY seq")).scalars().all()
    assert found == list(range(1, 21))


def test_a_fact_that_was_rolled_back_was_never_said(engine: Engine, clock: VirtualClock) -> None:
    with suppress(ZeroDivisionError), transaction(engine) as session:
        emit(session, published("a", 1), source="test", clock=clock, correlation_id="loop")
        _ = 1 / 0
    with transaction(engine) as session:
        event = emit(session, published("a", 1), source="test", clock=clock, correlation_id="loop")
    assert event.sequence == 1


def test_a_fact_too_large_for_a_broker_is_refused_where_it_is_said(engine: Engine, clock: VirtualClock) -> None:
    large = DatasetPublished(dataset_id="a", pipeline="demo", uri="s3://bucket/rows", name="x" * 1_000_001)
    with (
        pytest.raises(PermanentError, match=r"dataset\.published\.v1 about 'a' is \d+ bytes.*large content into S3"),
        transaction(engine) as session,
    ):
        emit(session, large, source="test", clock=clock, correlation_id="loop")


def test_an_explicit_trace_goes_on(engine: Engine, clock: VirtualClock) -> None:
    with transaction(engine) as session:
        event = emit(
            session, published("a", 1), source="test", clock=clock, correlation_id="loop",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
    assert event.traceparent == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.integration
def test_only_one_relay_works_on_a_postgresql_database(postgres_url: str) -> None:
    from shared.clock import SystemClock
    from shared.db import connect
    from tests.support.db import create_tables
    from tests.support.wait import eventually

    engines = [connect(postgres_url) for _ in range(2)]
    create_tables(engines[0])
    brokers = [MemoryBroker(), MemoryBroker()]
    relays = [
        RelayLoop(engine=engine, bootstrap="", clock=SystemClock(), source="test", open_sink=broker.sink)
        for engine, broker in zip(engines, brokers, strict=True)
    ]
    stops = [threading.Event(), threading.Event()]
    threads = [
        threading.Thread(target=relay.run, args=(stop,)) for relay, stop in zip(relays, stops, strict=True)
    ]
    try:
        tell(engines[0], SystemClock(), [("a", 1)])
        threads[0].start()
        eventually(lambda: numbers(brokers[0]) == {"a": [1]})
        threads[1].start()
        tell(engines[0], SystemClock(), [("a", 2)])
        eventually(lambda: numbers(brokers[0]) == {"a": [1, 2]})
        assert numbers(brokers[1]) == {}
        stops[0].set()
        threads[0].join()
        tell(engines[1], SystemClock(), [("a", 3)])
        eventually(lambda: numbers(brokers[1]) == {"a": [3]})
    finally:
        for stop, thread in zip(stops, threads, strict=True):
            stop.set()
            thread.join()
        for engine in engines:
            engine.dispose()
