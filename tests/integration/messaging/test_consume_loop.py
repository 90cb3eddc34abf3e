"""Kafka to inbox: what is stored, skipped, or sent to the dead letters."""

from sqlalchemy import Engine
from sqlmodel import select

from shared.clock import VirtualClock
from shared.db import reading
from shared.events import DatasetRejected, Event
from shared.messaging import ConsumeLoop, Outbox, list_inbox
from shared.messaging.broker import Outgoing
from shared.messaging.headers import load_headers
from tests.support.echo import TOPIC_IN, echo_handlers, outgoing, published
from tests.support.memory_broker import MemoryBroker


def consume_all(engine: Engine, broker: MemoryBroker, clock: VirtualClock) -> None:
    handlers = echo_handlers()
    loop = ConsumeLoop(engine=engine, handlers=handlers, bootstrap="", group="g", clock=clock)
    source = broker.source(handlers.topics, "g")
    while loop.step(source):
        pass


def fact(clock: VirtualClock, number: int = 1) -> Outgoing:
    return outgoing(Event(data=published("a", number), source="test", time=clock.now(), correlation_id="loop"))


def letters(engine: Engine) -> list[Outbox]:
    with reading(engine) as session:
        return list(session.exec(select(Outbox)).all())


def test_stores_events_once_also_when_read_again(
    engine: Engine, memory_broker: MemoryBroker, clock: VirtualClock
) -> None:
    record = fact(clock)
    memory_broker.append(record)
    memory_broker.append(record)  # as a relay that was killed before it marked the row
    consume_all(engine, memory_broker, clock)
    memory_broker.committed.clear()
    consume_all(engine, memory_broker, clock)
    with reading(engine) as session:
        (item,) = list_inbox(session, "pending")
    assert (item.key, item.source, item.type) == ("a", "test", "dataset.published.v1")
    assert (item.topic, item.offset) == (TOPIC_IN, 0)


def test_an_unreadable_record_becomes_one_dead_letter_with_its_bytes(
    engine: Engine, memory_broker: MemoryBroker, clock: VirtualClock
) -> None:
    junk = Outgoing(TOPIC_IN, b"k", b"\x00\xffnot json", (("x-origin", b"\xfe"), ("x-origin", b"2")))
    memory_broker.append(junk)
    memory_broker.append(fact(clock))
    consume_all(engine, memory_broker, clock)
    memory_broker.committed.clear()
    consume_all(engine, memory_broker, clock)
    (letter,) = letters(engine)
    assert (letter.topic, letter.payload) == (f"{TOPIC_IN}.dlq", junk.value)
    headers = load_headers(letter.headers)
    assert headers[:2] == junk.headers
    facts = dict(headers)
    assert (facts["dlq-topic"], facts["dlq-offset"], facts["dlq-key"]) == (TOPIC_IN.encode(), b"0", b"k")
    assert facts["dlq-error"].startswith(b"MalformedEventError: not a CloudEvent")
    with reading(engine) as session:
        assert len(list_inbox(session, "pending")) == 1


def test_a_key_that_is_no_text_does_not_stop_the_dead_letter(
    engine: Engine, memory_broker: MemoryBroker, clock: VirtualClock
) -> None:
    memory_broker.append(Outgoing(TOPIC_IN, b"\x00\xff", b"junk", ()))
    consume_all(engine, memory_broker, clock)
    (letter,) = letters(engine)
    assert dict(load_headers(letter.headers))["dlq-key"] == b"\x00\xff"


def test_a_payload_with_a_wrong_field_is_named_in_the_dead_letter(
    engine: Engine, memory_broker: MemoryBroker, clock: VirtualClock
) -> None:
    good = fact(clock)
    memory_broker.append(Outgoing(good.topic, good.key, good.value.replace(b"s3://", b"ftp://"), good.headers))
    consume_all(engine, memory_broker, clock)
    (letter,) = letters(engine)
    error = dict(load_headers(letter.headers))["dlq-error"]
    assert b"dataset.published.v1" in error
    assert b"uri" in error


def test_skips_what_others_handle_and_what_a_newer_version_says(
    engine: Engine, memory_broker: MemoryBroker, clock: VirtualClock
) -> None:
    rejected = DatasetRejected(dataset_id="a", pipeline="demo", reasons=["empty"], source_uri="s3://bucket/rows")
    other = outgoing(Event(data=rejected, source="test", time=clock.now(), correlation_id="loop"))
    memory_broker.append(other)
    memory_broker.append(Outgoing(other.topic, other.key, b"broken, but not ours to judge", other.headers))
    good = fact(clock)
    newer = tuple((name, b"dataset.sung.v1" if name == "ce_type" else value) for name, value in good.headers)
    memory_broker.append(Outgoing(good.topic, good.key, good.value, newer))
    consume_all(engine, memory_broker, clock)
    with reading(engine) as session:
        assert list_inbox(session, "pending") == []
    assert letters(engine) == []
    assert sum(memory_broker.committed.values()) == 3
