"""The agent beside a real engine, with a real S3: what the route table names is served, and nothing else."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.events import ArtifactRef, RouteTarget, RouteUpdated, Topic, encode
from shared.messaging.broker import KafkaSink, Outgoing
from shared.s3 import ArtifactStore, connect_store
from shared.settings import S3Settings
from tests.support.agents import BASE, Adapters, Agent
from tests.support.delivery import START, fact, said
from tests.support.metrics import risen, shown
from tests.support.serving_processes import ServingProcess, running, s3_environment
from tests.support.wait import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def agent(engine_from_s3: ServingProcess, make_agent: Callable[..., Agent]) -> Iterator[Agent]:
    agent = make_agent(engine_from_s3.url)
    yield agent
    for name in engine_from_s3.listed():
        engine_from_s3.unload(name)


@pytest.fixture
def adapters(store: ArtifactStore, tiny_model: Path, tmp_path: Path, base_digest: str) -> Adapters:
    return Adapters(store, tiny_model, tmp_path / "made", base_digest)


def test_what_the_route_names_is_loaded_said_and_answers(
    agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters
) -> None:
    ref = adapters.put()
    agent.route(v1=ref)
    agent.look(2)
    (ready,) = agent.said("replica.ready.v1")
    (loaded,) = agent.said("adapter.loaded.v1")
    assert (ready["replica"], ready["endpoint"]) == ("r0", engine_from_s3.url)
    assert (loaded["model_version"], loaded["digest"]) == ("support@1", ref.digest)
    root = engine_from_s3.listed()["support@1"]
    assert Path(root).parent == agent.settings.adapters_dir
    assert engine_from_s3.say("support@1", "hello") != engine_from_s3.say(BASE, "hello")


def test_a_second_version_joins_and_the_first_leaves_when_its_time_is_over(
    agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters
) -> None:
    unloads = shown("tuneloop_serving_unloads_total")
    first, second = adapters.put(), adapters.put()
    agent.route(v1=first)
    agent.look()
    agent.route(v1=first, v2=second)
    agent.look()
    assert set(engine_from_s3.listed()) == {"support@1", "support@2"}
    agent.route(v2=second)
    agent.look(5)
    assert set(engine_from_s3.listed()) == {"support@2"}
    assert [data["model_version"] for data in agent.said("adapter.unloaded.v1")] == ["support@1"]
    assert [path.name.split(".")[0] for path in agent.settings.adapters_dir.iterdir()] == ["support@2"]
    assert risen("tuneloop_serving_unloads_total", unloads) == 1


def test_an_adapter_stays_while_it_drains(
    engine_from_s3: ServingProcess, make_agent: Callable[..., Agent], adapters: Adapters
) -> None:
    agent = make_agent(engine_from_s3.url, drain_seconds=600)
    agent.route(v1=adapters.put())
    agent.look()
    agent.route()
    agent.look(3)
    assert "support@1" in engine_from_s3.listed()
    assert agent.said("adapter.unloaded.v1") == []
    engine_from_s3.unload("support@1")


@pytest.mark.parametrize(("wrong", "word"), [
    ({"meta": {"base_model_digest": "sha256:" + "0" * 64}}, "made for another base model"),
    ({"config": {"use_dora": True}}, "DoRA"),
    ({"config": {"r": 128}}, "rank 128"),
    ({"config": {"modules_to_save": ["lm_head"]}}, "modules_to_save"),
])
def test_what_must_not_be_loaded_is_refused_for_good(
    agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters, wrong: dict[str, Any], word: str
) -> None:
    agent.route(v1=adapters.put(**wrong))
    agent.look(3)
    (failed,) = agent.said("adapter.failed.v1")
    assert (failed["permanent"], word in failed["reason"]) == (True, True), failed
    assert engine_from_s3.listed() == {}


def test_a_wrong_digest_is_refused_for_good_and_names_both(
    agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters
) -> None:
    ref, other = adapters.put(), adapters.put()
    agent.route(v1=ArtifactRef(uri=ref.uri, digest=other.digest))
    agent.look(2)
    (failed,) = agent.said("adapter.failed.v1")
    assert failed["permanent"]
    assert ref.digest in failed["reason"]
    assert other.digest in failed["reason"]
    assert engine_from_s3.listed() == {}


def test_bytes_that_changed_in_s3_are_refused_with_the_file_s_name(
    agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters, store: ArtifactStore
) -> None:
    ref = adapters.put()
    store.put_bytes(ref.uri + "adapter_config.json", b"{}")
    agent.route(v1=ref)
    agent.look(2)
    (failed,) = agent.said("adapter.failed.v1")
    assert (failed["permanent"], "adapter_config.json" in failed["reason"]) == (True, True), failed
    assert engine_from_s3.listed() == {}
    assert list(agent.settings.adapters_dir.iterdir()) == []


def test_an_artifact_that_is_not_there_is_tried_again_and_given_up(agent: Agent) -> None:
    agent.route(v1=ArtifactRef(uri="s3://tuneloop-test/adapters/nothing/", digest="sha256:" + "5" * 64))
    agent.look()
    (failed,) = agent.said("adapter.failed.v1")
    assert failed["permanent"] is False

    def gives_up() -> bool:
        agent.look()
        return bool(agent.said("adapter.failed.v1")[-1]["permanent"])

    eventually(gives_up, interval=0.2)


def test_a_name_never_gets_other_weights(agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters) -> None:
    agent.route(v1=adapters.put())
    agent.look()
    before = engine_from_s3.say("support@1", "hello")
    agent.route(v1=adapters.put())
    agent.look(2)
    (failed,) = agent.said("adapter.failed.v1")
    assert (failed["permanent"], "never gets other weights" in failed["reason"]) == (True, True)
    assert engine_from_s3.say("support@1", "hello") == before


def test_damage_on_the_local_disk_is_mended(
    agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters
) -> None:
    agent.route(v1=adapters.put())
    agent.look()
    weights = Path(engine_from_s3.listed()["support@1"]) / "adapter_model.safetensors"
    engine_from_s3.unload("support@1")
    weights.write_bytes(weights.read_bytes()[:100])
    agent.look()
    assert "support@1" in engine_from_s3.listed()
    assert agent.said("adapter.failed.v1") == []


def test_an_agent_that_lost_its_memory_takes_over_what_is_listed(
    agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters, make_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    ref = adapters.put()
    agent.route(v1=ref)
    agent.look()
    agent.engine.dispose()
    for file in tmp_path.glob("agent.db*"):
        file.unlink()
    fresh = make_agent(engine_from_s3.url, drain_seconds=600)
    fresh.look()
    assert "support@1" in engine_from_s3.listed(), "nothing may leave before the routes are known"
    fresh.route(v1=ref)
    fresh.look()
    assert [data["model_version"] for data in fresh.said("adapter.loaded.v1")] == ["support@1"]


def test_adapters_come_back_after_the_engine_was_killed_also_without_s3(
    tiny_model: Path, tmp_path: Path, make_agent: Callable[..., Agent], adapters: Adapters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: dict[str, Any] = {"MODEL_PATH": tiny_model, "SERVED_MODEL_NAME": BASE}
    with running("services.serving.engine", tmp_path / "one.log", **settings) as engine:
        agent = make_agent(engine.url)
        agent.route(v1=adapters.put())
        agent.look()
        answer = engine.say("support@1", "hello")
        engine.kill()
        agent.look()
        assert len(agent.said("replica.ready.v1")) == 1
        port = engine.port
    # From here on S3 does not answer: what is staged and verified must be enough.
    nowhere = S3Settings(s3_endpoint="http://127.0.0.1:1", s3_access_key="a", s3_secret_key=SecretStr("b"))
    with (
        connect_store(nowhere) as unreachable,
        running("services.serving.engine", tmp_path / "two.log", port=port, **settings) as engine,
    ):
        monkeypatch.setattr(agent.loop, "_store", unreachable)
        agent.look()
        assert len(agent.said("replica.ready.v1")) == 2
        assert len(agent.said("adapter.loaded.v1")) == 2
        assert engine.say("support@1", "hello") == answer


def test_a_server_that_is_about_to_stop_keeps_its_adapters_but_no_gateway_asks_for_them(
    agent: Agent, engine_from_s3: ServingProcess, adapters: Adapters
) -> None:
    agent.route(v1=adapters.put())
    agent.look()
    agent.leaving.set()
    agent.look(3)
    assert [data["model_version"] for data in agent.said("adapter.unloaded.v1")] == ["support@1"]
    assert len(agent.said("adapter.loaded.v1")) == 1
    assert "support@1" in engine_from_s3.listed(), "its requests in flight need it"
    # The container was started again instead of the pod: the agent sees another start.
    agent.memory.server_started("long ago")
    agent.look()
    assert not agent.leaving.is_set()
    assert len(agent.said("adapter.loaded.v1")) == 2


def test_a_server_is_said_to_be_alive_only_while_it_answers_and_stays(
    engine_from_s3: ServingProcess, make_agent: Callable[..., Agent]
) -> None:
    often = make_agent(engine_from_s3.url, alive_seconds=1e-6)
    often.look(2)
    assert len(often.said("replica.alive.v1")) == 2
    often.leaving.set()
    often.look()
    assert len(often.said("replica.alive.v1")) == 2
    make_agent(engine_from_s3.url).look(2)
    assert len(often.said("replica.alive.v1")) == 3, "once in alive_seconds"
    make_agent("http://127.0.0.1:1", alive_seconds=1e-6).look(2)
    assert len(often.said("replica.alive.v1")) == 3


def test_a_server_with_another_base_is_left_alone(
    engine_from_s3: ServingProcess, make_agent: Callable[..., Agent]
) -> None:
    agent = make_agent(engine_from_s3.url, base_model="another")
    agent.look()
    assert said(agent.engine) == []


@pytest.mark.chaos
def test_the_agent_as_a_process_survives_kill_and_obeys_sigterm(
    engine_from_s3: ServingProcess, s3_settings: S3Settings, broker: str, tmp_path: Path, adapters: Adapters
) -> None:
    """Over a real broker: a route on Kafka becomes an adapter on the engine and a fact on Kafka, once."""
    ref = adapters.put()
    settings: dict[str, Any] = {
        "REPLICA": f"r-{os.getpid()}", "ENGINE_URL": engine_from_s3.url, "BASE_MODEL": BASE, "KAFKA_BOOTSTRAP": broker,
        "CACHE_DIR": tmp_path / "cache", "DATABASE_URL": f"sqlite:///{tmp_path}/agent.db", "DRAIN_SECONDS": "0",
        "KAFKA_SESSION_TIMEOUT_MS": "2000", "RECONCILE_INTERVAL_SECONDS": "0.2", **s3_environment(s3_settings),
    }
    log = tmp_path / "agent.log"
    with running("services.serving", log, **settings) as process:
        _publish(broker, ref)
        eventually(lambda: "support-live@1" in engine_from_s3.listed())
        process.process.send_signal(signal.SIGKILL)
        process.process.wait()
    shutil.copy(log, tmp_path / "killed.log")
    with running("services.serving", log, **settings) as process:
        rows = eventually(lambda: process.client.get("/v1/adapters?state=loaded").json()["items"])
        assert [(row["model_version"], row["digest"]) for row in rows] == [("support-live@1", ref.digest)]
        assert process.client.get("/v1/replica").json()["ready_at"]
        assert process.client.post("/v1/drain").json()["leaving"]
        eventually(lambda: not process.client.get("/v1/adapters?state=loaded").json()["items"])
        assert process.terminate() == 0
    engine_from_s3.unload("support-live@1")


def _publish(broker: str, ref: ArtifactRef) -> None:
    target = RouteTarget(model_version="support-live@1", adapter=ref, role="stable", weight=10_000)
    message = encode(fact(RouteUpdated(
        route="support-live", revision=1, salt="s", base_model=BASE, targets=[target], updated_at=START,
    )))
    sink = KafkaSink(broker, "test-routes")
    try:
        assert sink.send([Outgoing(
            topic=Topic.ROUTES.value, key=b"support-live", value=message.value, headers=tuple(message.headers.items())
        )]) == [None]
    finally:
        sink.close()
