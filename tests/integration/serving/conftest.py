"""Engines for the tests that need no other, an agent beside one, and adapters that change what the tiny model says."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.s3 import ArtifactStore, connect_store
from shared.settings import S3Settings
from tests.support.adapters import write_adapter
from tests.support.agents import BASE, Agent, agents
from tests.support.serving_processes import ServingProcess, running, s3_environment


@pytest.fixture(scope="module")
def engine(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """An engine that serves the tiny model as ``tiny``."""
    log = tmp_path_factory.mktemp("engine") / "engine.log"
    with running(
        "services.serving.engine", log, MODEL_PATH=tiny_model, SERVED_MODEL_NAME="tiny", FAULT_HOOKS="true",
        MAX_LORAS="3", MAX_LORA_RANK="8", MAX_QUEUE="4", MAX_BATCH_SIZE="2",
    ) as process:
        yield process


@pytest.fixture
def empty_engine(engine: ServingProcess) -> ServingProcess:
    """The engine, without adapters and faults."""
    for name in engine.listed():
        assert engine.unload(name).status_code == 200
    for fault in engine.client.get("/v1/test/faults").json()["items"]:
        engine.client.post("/v1/test/faults", json={"model": fault["model"]})
    return engine


@pytest.fixture(scope="session")
def store(s3_settings: S3Settings) -> Iterator[ArtifactStore]:
    with connect_store(s3_settings) as store:
        yield store


@pytest.fixture(scope="session")
def base_digest(store: ArtifactStore, tiny_model: Path) -> str:
    return store.put_dir_at(f"base-models/{BASE}/", tiny_model, kind="base-model", meta={"base_model": BASE}).digest


@pytest.fixture(scope="session")
def engine_from_s3(
    s3_settings: S3Settings, base_digest: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServingProcess]:
    """An engine that got its base model from S3."""
    folder = tmp_path_factory.mktemp("engine-s3")
    with running(
        "services.serving.engine", folder / "engine.log", BASE_MODEL=BASE, CACHE_DIR=folder / "cache",
        **s3_environment(s3_settings),
    ) as process:
        yield process


@pytest.fixture
def make_agent(tmp_path: Path, store: ArtifactStore) -> Iterator[Callable[..., Agent]]:
    with agents(tmp_path, store) as make:
        yield make


@pytest.fixture(scope="session")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters with different weights."""
    folder = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(folder / name, tiny_model, seed=seed) for seed, name in enumerate(("one", "two"))}
