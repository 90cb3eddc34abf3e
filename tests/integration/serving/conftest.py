"""One engine for the tests that need no other, and adapters that change what the tiny model says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.adapters import write_adapter
from tests.support.serving_processes import ServingProcess, running


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
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters with different weights."""
    folder = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(folder / name, tiny_model, seed=seed) for seed, name in enumerate(("one", "two"))}
