"""One vLLM for the whole session: it takes half a minute to start. What dies of a test is started again by the next."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.events import Payload, encode
from shared.messaging.broker import KafkaSink, Outgoing
from shared.s3 import ArtifactStore, connect_store
from shared.settings import S3Settings
from tests.support.agents import BASE, Adapters, Agent, agents
from tests.support.delivery import fact
from tests.support.serving_processes import s3_environment
from tests.support.vllm_server import VllmServer, running_vllm

# Few, so that tests can have too many.
MAX_LORAS, MAX_CPU_LORAS, MAX_RANK = 2, 3, 8


@pytest.fixture(scope="session")
def store(s3_settings: S3Settings) -> Iterator[ArtifactStore]:
    with connect_store(s3_settings) as store:
        yield store


@pytest.fixture(scope="session")
def base_digest(store: ArtifactStore, tiny_model: Path) -> str:
    return store.put_dir_at(f"base-models/{BASE}/", tiny_model, kind="base-model", meta={"base_model": BASE}).digest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the agents and vLLM's plugin share."""
    return tmp_path_factory.mktemp("shared") / "cache"


@pytest.fixture(scope="session")
def one_vllm(
    s3_settings: S3Settings, base_digest: str, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VllmServer]:
    """vLLM with the tiny model from S3, and with our plugin."""
    with running_vllm(
        tmp_path_factory.mktemp("vllm") / "vllm.log", BASE_MODEL=BASE, CACHE_DIR=cache, DTYPE="float32",
        MAX_LORAS=MAX_LORAS, MAX_CPU_LORAS=MAX_CPU_LORAS, MAX_LORA_RANK=MAX_RANK,
        WANTED_FILE=cache / "serving" / "r0.wanted.json", REFUSAL_SECONDS=600, **s3_environment(s3_settings),
    ) as server:
        yield server


@pytest.fixture
def vllm(one_vllm: VllmServer, cache: Path) -> VllmServer:
    """It, alive, without adapters, and without the files of agents that were before."""
    if not one_vllm.well():
        one_vllm.restart()
    for name in one_vllm.listed():
        assert one_vllm.unload(name).status_code == 200
    shutil.rmtree(cache / "serving", ignore_errors=True)
    return one_vllm


@pytest.fixture
def make_agent(tmp_path: Path, cache: Path, store: ArtifactStore) -> Iterator[Callable[..., Agent]]:
    """Makes agents whose files vLLM's plugin reads."""
    with agents(tmp_path, store) as make:
        yield lambda url, **settings: make(url, **{
            "cache_dir": cache, "max_loras": MAX_LORAS, "max_cpu_loras": MAX_CPU_LORAS, "max_lora_rank": MAX_RANK,
            **settings,
        })


@pytest.fixture
def agent(vllm: VllmServer, make_agent: Callable[..., Agent]) -> Agent:
    return make_agent(vllm.url)


@pytest.fixture
def agent_settings(
    vllm: VllmServer, broker: str, s3_settings: S3Settings, cache: Path, tmp_path: Path
) -> dict[str, Any]:
    """For an agent that is a process of its own."""
    return {
        "REPLICA": "r0", "ENGINE_URL": vllm.url, "BASE_MODEL": BASE, "KAFKA_BOOTSTRAP": broker, "CACHE_DIR": cache,
        "DATABASE_URL": f"sqlite:///{tmp_path}/agent.db", "KAFKA_SESSION_TIMEOUT_MS": "2000",
        "RECONCILE_INTERVAL_SECONDS": "0.2", "MAX_LORAS": MAX_LORAS, "MAX_CPU_LORAS": MAX_CPU_LORAS,
        "MAX_LORA_RANK": MAX_RANK, **s3_environment(s3_settings),
    }


def publish(broker: str, payload: Payload, *, sequence: int = 1) -> None:
    """Say a fact to all who listen; `sequence` tells apart those about one subject."""
    message = encode(fact(payload, sequence=sequence))
    sink = KafkaSink(broker, "test-vllm")
    try:
        record = Outgoing(topic=payload.TOPIC.value, key=str(message.key).encode(), value=message.value,
                          headers=tuple(message.headers.items()))
        assert sink.send([record]) == [None]
    finally:
        sink.close()


@pytest.fixture
def adapters(store: ArtifactStore, tiny_model: Path, tmp_path: Path, base_digest: str) -> Adapters:
    return Adapters(store, tiny_model, tmp_path / "made", base_digest)
