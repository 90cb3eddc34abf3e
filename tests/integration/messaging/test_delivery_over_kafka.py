"""The loops in their threads over a real broker, and deaths at each kind of write there."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import Engine

from shared.clock import SystemClock
from shared.db import connect, reading
from shared.messaging import ConsumeLoop, ProcessLoop, RelayLoop, list_inbox
from shared.messaging.broker import KafkaSink, KafkaSource, Outgoing, Record
from tests.support.broker import start_tansu
from tests.support.crash import Crash, CrashPlan, watch_commits
from tests.support.echo import TOPIC_IN, TOPIC_OUT, echo_handlers, effects, heard, tell, unpublished
from tests.support.ports import free_port
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

SESSION_TIMEOUT_MS = 2000
CLOCK = SystemClock()


@contextmanager
def running(engine: Engine, bootstrap: str) -> Iterator[None]:
    """The echo service's loops, in their threads."""
    handlers = echo_handlers()
    loops: list[ConsumeLoop | ProcessLoop | RelayLoop] = [
        ConsumeLoop(
            engine=engine, handlers=handlers, bootstrap=bootstrap, group="echo", clock=CLOCK,
            session_timeout_ms=SESSION_TIMEOUT_MS,
        ),
        ProcessLoop(engine=engine, handlers=handlers, clock=CLOCK),
        RelayLoop(engine=engine, bootstrap=bootstrap, clock=CLOCK, source="echo"),
    ]
    stop = threading.Event()
    threads = [threading.Thread(target=loop.run, args=(stop,), name=loop.name) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=30)
            assert not thread.is_alive(), f"{thread.name} did not stop"


def read_topic(bootstrap: str, topic: str, enough: Callable[[list[Record]], bool]) -> list[Record]:
    """All records of a topic, once there are enough."""
    found: list[Record] = []

    def look() -> bool:
        found.extend(source.poll(0.2))
        return enough(found)

    with closing(KafkaSource(bootstrap, [topic], group=None)) as source:
        eventually(look, what=f"enough records in {topic}")
    return found


def facts(keys: str, count: int) -> list[tuple[str, int]]:
    return [(key, number) for number in range(1, count + 1) for key in keys]


def expected(keys: str, count: int) -> dict[str, list[int]]:
    return {key: list(range(1, count + 1)) for key in keys}


def test_events_flow_and_junk_goes_to_the_dead_letter_topic(engine: Engine) -> None:
    with start_tansu() as bootstrap, running(engine, bootstrap):
        with closing(KafkaSink(bootstrap, "test")) as sink:
            assert sink.send([Outgoing(TOPIC_IN, b"k", b"\xff\x00 junk", (("x", b"1"),))]) == [None]
        tell(engine, CLOCK, facts("abc", 8))
        eventually(lambda: effects(engine) == expected("abc", 8))
        eventually(lambda: unpublished(engine) == 0)
        assert heard(read_topic(bootstrap, TOPIC_OUT, lambda found: len(found) >= 24)) == expected("abc", 8)
        (letter,) = read_topic(bootstrap, f"{TOPIC_IN}.dlq", bool)
        assert letter.value == b"\xff\x00 junk"
        headers = dict(letter.headers)
        assert headers["x"] == b"1"
        assert headers["dlq-consumer"] == b"echo"
        assert headers["dlq-topic"] == TOPIC_IN.encode()


def test_a_service_that_starts_before_its_broker_waits_for_it(engine: Engine) -> None:
    port = free_port()
    with running(engine, f"127.0.0.1:{port}"):
        tell(engine, CLOCK, facts("a", 3))
        with start_tansu(port=port):
            eventually(lambda: effects(engine) == expected("a", 3))


class DyingSource:
    """A source that may die at each commit of offsets."""

    def __init__(self, source: KafkaSource, plan: CrashPlan) -> None:
        self._source = source
        self._plan = plan

    def poll(self, seconds: float) -> list[Record]:
        return self._source.poll(seconds)

    def commit(self, records: Sequence[Record]) -> None:
        self._plan.hit("before offset commit")
        self._source.commit(records)
        self._plan.hit("after offset commit")

    def lag(self) -> Mapping[str, int]:
        return self._source.lag()

    def close(self) -> None:
        self._source.close()


class DyingSink:
    """A sink that may die around each round of records."""

    def __init__(self, sink: KafkaSink, plan: CrashPlan) -> None:
        self._sink = sink
        self._plan = plan

    def send(self, records: Sequence[Outgoing]) -> list[Exception | None]:
        self._plan.hit("before produce")
        outcomes = self._sink.send(records)
        self._plan.hit("after produce")
        return outcomes

    def close(self) -> None:
        self._sink.close()


FACTS = facts("ab", 2)


def live_once(url: str, bootstrap: str, plan: CrashPlan) -> bool:
    """One life of the service over the real broker; whether it reached the end."""
    engine = connect(url)
    watch_commits(engine, plan.hit)
    handlers = echo_handlers()
    relay = RelayLoop(engine=engine, bootstrap="", clock=CLOCK, source="echo")
    consume = ConsumeLoop(engine=engine, handlers=handlers, bootstrap="", group="echo", clock=CLOCK)
    process = ProcessLoop(engine=engine, handlers=handlers, clock=CLOCK)

    def done() -> bool:
        relay.step(sink)
        consume.step(source)
        while process.step():
            pass
        with reading(engine) as session:
            handled = len(list_inbox(session, "done"))
        return handled == len(FACTS) and unpublished(engine) == 0

    with (
        closing(KafkaSource(bootstrap, handlers.topics, group="echo", session_timeout_ms=SESSION_TIMEOUT_MS)) as reader,
        closing(KafkaSink(bootstrap, "echo")) as writer,
    ):
        source, sink = DyingSource(reader, plan), DyingSink(writer, plan)
        try:
            eventually(done)
        except Crash:
            return False
        finally:
            engine.dispose()
    return True


POINTS = [f"{when} {what}" for when in ("before", "after") for what in ("database commit", "produce", "offset commit")]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("occurrence", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_each_kind_of_write(engine: Engine, point: str, occurrence: int) -> None:
    class Plan(CrashPlan):
        """Dies at the n-th point of one name."""

        def hit(self, name: str) -> None:
            self.names.append(name)
            if name == point and self.names.count(name) == occurrence:
                raise Crash(name)

    tell(engine, CLOCK, FACTS)
    url, plan, lives = engine.url.render_as_string(hide_password=False), Plan(), 1
    with start_tansu() as bootstrap:
        while not live_once(url, bootstrap, plan):
            lives += 1
        assert lives <= 2
        assert effects(engine) == expected("ab", 2)
        read_topic(bootstrap, TOPIC_OUT, lambda found: heard(found) == expected("ab", 2))
