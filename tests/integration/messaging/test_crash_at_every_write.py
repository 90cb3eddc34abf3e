"""The service dies before and after each commit, each produced record and each offset commit, and starts again.

Whatever the point: every event is handled once, in order per key, and every fact is published at least once.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from shared.clock import VirtualClock
from shared.db import connect, reading, transaction
from shared.messaging import ConsumeLoop, ProcessLoop, RelayLoop, list_inbox
from tests.support.crash import Crash, CrashPlan, watch_commits
from tests.support.db import create_tables, sqlite_engine
from tests.support.echo import TOPIC_OUT, EchoBase, echo_handlers, effects, heard, tell, unpublished
from tests.support.memory_broker import MemoryBroker

FACTS = [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]
EXPECTED = {"a": [1, 2, 3], "b": [1, 2]}
KINDS = {f"{when} {what}" for when in ("before", "after") for what in ("database commit", "produce", "offset commit")}
CLOCK = VirtualClock()


def work(engine: Engine, broker: MemoryBroker) -> None:
    """One life of the service, until there is nothing to do."""
    handlers = echo_handlers()
    relay = RelayLoop(engine=engine, bootstrap="", clock=CLOCK, source="echo")
    consume = ConsumeLoop(engine=engine, handlers=handlers, bootstrap="", group="echo", clock=CLOCK)
    process = ProcessLoop(engine=engine, handlers=handlers, clock=CLOCK)
    source, sink = broker.source(handlers.topics, "echo"), broker.sink()
    while relay.step(sink) + consume.step(source) + process.step():
        pass


def live(url: str, broker: MemoryBroker, plan: CrashPlan) -> int:
    """All lives of the service; how often it died."""
    for deaths in range(100):
        engine = connect(url)
        watch_commits(engine, plan.hit)
        broker.hit = plan.hit
        try:
            work(engine, broker)
        except Crash:
            continue
        finally:
            engine.dispose()
        return deaths
    raise AssertionError("it dies without end")


def check(engine: Engine, broker: MemoryBroker) -> None:
    assert effects(engine) == EXPECTED
    assert heard(broker.records(TOPIC_OUT)) == EXPECTED
    assert unpublished(engine) == 0
    with reading(engine) as session:
        assert len(list_inbox(session, "done")) == len(FACTS)
        assert list_inbox(session, "pending") == list_inbox(session, "dead") == []


def run(engine: Engine, plan: CrashPlan, *, late_by: int | None = None) -> int:
    """Tell the facts, live through the plan, check the outcome; how often it died."""
    with transaction(engine) as session:
        for table in ("inbox", "outbox", "effect"):
            session.connection().execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names from the line above
    broker = MemoryBroker()
    broker.late_by = late_by
    tell(engine, CLOCK, FACTS)
    deaths = live(engine.url.render_as_string(hide_password=False), broker, plan)
    check(engine, broker)
    return deaths


def test_one_crash_at_every_point(engine: Engine) -> None:
    calm = CrashPlan()
    assert run(engine, calm) == 0
    assert set(calm.names) == KINDS
    for point in range(1, len(calm.names) + 1):
        assert run(engine, CrashPlan({point})) == 1, f"did not die at {point}, {calm.names[point - 1]}"


@pytest.fixture(scope="module")
def sqlite() -> Iterator[Engine]:
    with sqlite_engine(EchoBase.metadata) as engine:
        create_tables(engine, EchoBase.metadata)
        yield engine


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(points=st.sets(st.integers(1, 120), max_size=12), late_by=st.none() | st.integers(0, 4))
def test_many_crashes_and_records_that_arrive_late(sqlite: Engine, points: set[int], late_by: int | None) -> None:
    run(sqlite, CrashPlan(points), late_by=late_by)
