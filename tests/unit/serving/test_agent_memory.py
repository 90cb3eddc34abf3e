"""What the agent remembers and says: every fact leaves exactly once, with the change that makes it true."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

import services.serving
from services.serving.decide import Wanted
from services.serving.handlers import handlers
from services.serving.memory import Memory
from services.serving.models import Base
from services.serving.settings import AgentSettings
from services.serving.wanted import digest_in, wanted_adapters
from shared.clock import VirtualClock
from shared.db import connect
from tests.support.db import assert_migrations_match, create_tables
from tests.support.delivery import deliver, fact, said
from tests.support.routes import adapter_ref, canary, route

START = datetime(2026, 1, 1, tzinfo=UTC)
FOLDER = Path("/cache")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path}/agent.db")
    create_tables(engine, Base.metadata)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture
def memory(engine: Engine, clock: VirtualClock) -> Memory:
    settings = AgentSettings(replica="r0", base_model="tiny", engine_url="http://engine/", load_attempts=2)
    return Memory(engine, settings, clock)


def wanted(memory: Memory) -> dict[str, Wanted]:
    return wanted_adapters(memory.read().routes, base_model="tiny", folder=FOLDER)


def subjects(engine: Engine) -> list[tuple[str, str]]:
    return [(kind, data.get("model_version", data["replica"])) for kind, data in said(engine)]


def test_the_migrations_make_the_tables() -> None:
    assert_migrations_match(Path(services.serving.__file__).parent / "migrations", Base.metadata)


def test_the_highest_revision_of_a_route_wins(engine: Engine, memory: Memory) -> None:
    deliver(
        engine, handlers, fact(canary("a", None, "a@2", 0, revision=2), sequence=1),
        fact(canary("a", None, "a@1", 0, revision=1), sequence=2),
    )
    assert list(wanted(memory)) == ["a@2"]


def test_all_targets_with_an_adapter_are_wanted_also_at_weight_0(engine: Engine, memory: Memory) -> None:
    deliver(
        engine, handlers, fact(canary("a", "a@1", "a@2", 0)), fact(route("b")),
        fact(canary("c", None, "c@1", 500, base_model="another")),
    )
    items = wanted(memory)
    assert list(items) == ["a@1", "a@2"]
    item = items["a@2"]
    assert (item.digest, item.uri) == (adapter_ref("a@2").digest, adapter_ref("a@2").uri)
    assert item.root.startswith("/cache/a@2.")
    assert digest_in(item.root) == item.digest
    assert digest_in("/somewhere/else") == ""


def test_a_start_of_the_server_is_said_and_everything_is_to_be_loaded_again(engine: Engine, memory: Memory) -> None:
    deliver(engine, handlers, fact(canary("a", None, "a@1", 0)))
    memory.server_started("1.0")
    memory.loaded(wanted(memory)["a@1"])
    memory.server_started("2.0")
    memory.loaded(wanted(memory)["a@1"])
    assert subjects(engine) == [
        ("replica.ready.v1", "r0"), ("adapter.loaded.v1", "a@1"),
        ("replica.ready.v1", "r0"), ("adapter.loaded.v1", "a@1"),
    ]
    server = memory.read().server
    assert server is not None
    assert server.started == "2.0"


def test_a_server_that_is_about_to_stop_has_no_adapter_and_its_next_start_has_them_again(
    engine: Engine, memory: Memory
) -> None:
    deliver(engine, handlers, fact(canary("a", "a@1", "a@2", 0)))
    memory.server_started("1.0")
    memory.loaded(wanted(memory)["a@1"])
    memory.failed(wanted(memory)["a@2"], "wrong digest", "permanent")
    before = len(said(engine))
    memory.withdraw()
    memory.withdraw()
    assert subjects(engine)[before:] == [("adapter.unloaded.v1", "a@1")]
    assert {name: known.state for name, known in memory.read().known.items()} == {"a@1": "pending", "a@2": "failed"}


def test_a_temporary_failure_is_said_once_per_reason_and_waits_longer_each_time(
    engine: Engine, memory: Memory, clock: VirtualClock
) -> None:
    deliver(engine, handlers, fact(canary("a", None, "a@1", 0)))
    item = wanted(memory)["a@1"]
    for _ in range(3):
        assert memory.failed(item, "S3 is down", "temporary") is False
    memory.failed(item, "the disk is full", "temporary")
    assert [(data["reason"], data["permanent"]) for _, data in said(engine)] == [
        ("S3 is down", False), ("the disk is full", False),
    ]
    known = memory.read().known["a@1"]
    assert (known.state, known.due_at) == ("pending", START + timedelta(seconds=8))


def test_a_refusal_is_final_after_the_allowed_attempts(engine: Engine, memory: Memory) -> None:
    deliver(engine, handlers, fact(canary("a", None, "a@1", 0)))
    item = wanted(memory)["a@1"]
    memory.failed(item, "S3 is down", "temporary")
    assert memory.failed(item, "answered 500", "refused") is False
    assert memory.failed(item, "answered 500", "refused") is True
    assert memory.read().known["a@1"].state == "failed"
    # A restart of the server does not make the weights better.
    memory.server_started("2.0")
    assert memory.read().known["a@1"].state == "failed"


def test_other_weights_under_a_name_start_afresh(engine: Engine, memory: Memory) -> None:
    deliver(engine, handlers, fact(canary("a", None, "a@1", 0)))
    item = wanted(memory)["a@1"]
    memory.failed(item, "wrong digest", "permanent")
    other = Wanted(item.name, item.uri, "sha256:" + "9" * 64, "/cache/other", "loop-2", "cause-2")
    memory.loaded(other)
    row = memory.read().adapters[0]
    assert (row.state, row.digest, row.reason, row.correlation_id) == ("loaded", other.digest, "", "loop-2")


def test_the_way_out_is_said_when_it_is_over(engine: Engine, memory: Memory) -> None:
    deliver(engine, handlers, fact(canary("a", None, "a@1", 0)))
    item = wanted(memory)["a@1"]
    memory.loaded(item)
    memory.draining("a@1", item.root, START)
    assert len(said(engine)) == 1
    memory.gone("a@1", START)
    assert subjects(engine)[1:] == [("adapter.unloaded.v1", "a@1")]
    memory.forget("a@1")
    assert memory.read().adapters == []


def test_an_adapter_of_unknown_origin_leaves_in_silence(engine: Engine, memory: Memory) -> None:
    memory.draining("by-hand", "/elsewhere", START)
    memory.gone("by-hand", START)
    assert said(engine) == []


def test_facts_carry_the_endpoint_of_the_gateway_s_side_and_the_loop(engine: Engine) -> None:
    settings = AgentSettings(
        replica="r0", base_model="tiny", engine_url="http://127.0.0.1:1", advertised_endpoint="http://pod:8000/"
    )
    memory = Memory(engine, settings, VirtualClock(START))
    memory.server_started("1.0")
    ((_, ready),) = said(engine)
    assert ready["endpoint"] == "http://pod:8000"
    assert settings.kafka_group_suffix == "-r0"


def test_a_route_that_comes_back_for_a_moment_gives_an_adapter_its_whole_drain_time_again(
    engine: Engine, memory: Memory
) -> None:
    deliver(engine, handlers, fact(canary("a", None, "a@1", 0, revision=1)))
    item = wanted(memory)["a@1"]
    memory.loaded(item)
    deliver(engine, handlers, fact(route("a", revision=2), sequence=2))
    memory.draining("a@1", item.root, START + timedelta(seconds=60))
    deliver(engine, handlers, fact(canary("a", None, "a@1", 500, revision=3), sequence=3),
            fact(route("a", revision=4), sequence=4))
    assert wanted(memory) == {}
    known = memory.read().known["a@1"]
    assert (known.state, known.due_at) == ("pending", None), "the next look begins its drain anew"
