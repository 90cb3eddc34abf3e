"""The trainer with real jobs: from a prepared dataset to a finished run, whatever dies on the way."""

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlmodel import select

from services.trainer.api import build_router
from services.trainer.handlers import handlers
from services.trainer.models import Base, Run
from services.trainer.reconcile import RunReconciler
from services.trainer.settings import TrainerSettings
from shared.clock import SystemClock
from shared.db import reading
from shared.events import DatasetPrepared, DatasetRef, PipelineApplied
from shared.launchers import launcher_from
from shared.launchers.folder import JobFolder
from shared.pipeline import parse_pipeline
from shared.s3 import ArtifactStore
from shared.service import Runtime
from tests.support.apps import app_of
from tests.support.db import sqlite_engine
from tests.support.delivery import deliver, fact, said
from tests.support.training import end_jobs
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

PIPELINE = """
apiVersion: tuneloop.dev/v1
kind: Pipeline
metadata: {{name: {name}}}
spec:
  baseModel: {base_model}
  training: {{epochs: {epochs}, checkpointEverySteps: 5, validateEverySteps: 20, maxLength: 128}}
"""


class Trainer:
    """The service's loop and API over a database, with the subprocess launcher and a real S3."""

    def __init__(self, engine: Engine, store: ArtifactStore, settings: TrainerSettings, pipeline: str) -> None:
        self.engine, self.store, self.settings, self.pipeline = engine, store, settings, pipeline

    def prepare(self, dataset: DatasetRef, *, base_model: str = "tiny", epochs: int = 4) -> None:
        """A pipeline is applied, and a dataset prepared for it."""
        spec = parse_pipeline(PIPELINE.format(name=self.pipeline, base_model=base_model, epochs=epochs)).spec
        applied = PipelineApplied(pipeline=self.pipeline, version=1, digest="sha256:" + "0" * 64, spec=spec)
        prepared = DatasetPrepared(
            dataset_id=dataset.dataset_id, pipeline=self.pipeline, pipeline_version=1, dataset=dataset, rows_in=120,
            source_uri=f"s3://{self.store.bucket}/raw/{dataset.dataset_id}/data.jsonl",
        )
        deliver(self.engine, handlers, fact(applied), fact(prepared), clock=SystemClock())

    def look(self) -> None:
        """One look by a trainer that has just started and knows nothing but what its database says."""
        runtime = Runtime(self.settings, self.engine, self.store, SystemClock(), "test")
        RunReconciler(runtime, launcher_from(self.settings)).loop().step()

    def run(self) -> Run:
        with reading(self.engine) as session:
            (run,) = session.exec(select(Run)).all()
            return run

    def until(self, state: str, timeout: float = 200.0) -> Run:
        """Look until the run is in this state."""

        def probe() -> Run | None:
            self.look()
            run = self.run()
            return run if run.state == state else None

        return eventually(probe, timeout=timeout, interval=0.2, what=f"the run is {state}")

    def until_checkpoint(self) -> None:
        run = self.until("running")
        prefix = f"runs/{run.id}/{run.attempt}/checkpoints/"
        eventually(lambda: [uri for uri in self.store.list_prefixes(prefix) if self.store.exists(uri)],
                   what="a checkpoint")

    def job(self) -> JobFolder:
        """The folder of the only job that is at work or was."""
        (path,) = self.settings.launcher_dir.iterdir()
        return JobFolder(path)

    def said(self, type_: str) -> list[dict[str, Any]]:
        return [payload for name, payload in said(self.engine) if name == type_]


@pytest.fixture
def trainer(
    store: ArtifactStore, job_cache: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Trainer]:
    settings = TrainerSettings(
        launcher_dir=tmp_path / "jobs", cache_dir=job_cache, progress_seconds=0.5, reconcile_interval_seconds=0.1
    )
    with sqlite_engine(Base.metadata) as engine:
        # Of its own per test: the bucket is shared, and the same work has the same name.
        pipeline = hashlib.sha256(request.node.name.encode()).hexdigest()[:10]
        made = Trainer(engine, store, settings, f"p-{pipeline}")
        yield made
        end_jobs(settings)


def test_a_prepared_dataset_becomes_an_adapter(trainer: Trainer, dataset: DatasetRef) -> None:
    trainer.prepare(dataset)
    run = trainer.until("completed")

    (completed,) = trainer.said("training.completed.v1")
    assert next(name for name, _ in said(trainer.engine)) == "training.started.v1"
    assert len(trainer.said("training.started.v1")) == 1
    assert trainer.store.manifest(completed["adapter"]["uri"]) is not None
    assert completed["steps"] == 24
    assert completed["dataset"]["artifact"]["digest"] == dataset.artifact.digest
    steps = [told["step"] for told in trainer.said("training.progressed.v1")]
    assert steps
    assert steps == sorted(steps)
    with TestClient(app_of(trainer.settings, lambda r: build_router(r, launcher_from(trainer.settings)),
                           trainer.engine)) as client:
        shown = client.get(f"/v1/runs/{run.id}").json()
        assert (shown["state"], shown["attempt"]) == ("completed", 1)
        assert shown["result"]["adapter"] == completed["adapter"]


def test_a_job_that_is_killed_is_followed_by_one_that_resumes(trainer: Trainer, dataset: DatasetRef) -> None:
    trainer.prepare(dataset, epochs=12)
    trainer.until_checkpoint()
    process = trainer.job().job()
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)

    run = trainer.until("completed")
    assert run.attempt == 2
    assert [told["attempt"] for told in trainer.said("training.started.v1")] == [1, 2]
    (completed,) = trainer.said("training.completed.v1")
    assert (completed["attempt"], completed["steps"]) == (2, 72)
    logs = [(path / "log").read_text() for path in sorted(trainer.settings.launcher_dir.iterdir())]
    assert ["resuming" in log for log in logs] == [False, True]


def test_a_run_that_is_cancelled_ends_with_its_job(trainer: Trainer, dataset: DatasetRef) -> None:
    trainer.prepare(dataset, epochs=1000)
    trainer.until_checkpoint()
    api = app_of(trainer.settings, lambda r: build_router(r, launcher_from(trainer.settings)), trainer.engine)
    with TestClient(api) as client:
        url = f"/v1/runs/{trainer.run().id}/cancel"
        assert client.post(url, json={"reason": "wrong data"}).status_code == 202
        trainer.until("cancelled", timeout=20)
        again = client.post(url, json={})
    assert again.status_code == 409
    assert "has ended already: it is cancelled" in again.json()["error"]["message"]
    assert [told["reason"] for told in trainer.said("training.failed.v1")] == ["cancelled: wrong data"]
    name = trainer.job().path.name
    eventually(lambda: launcher_from(trainer.settings).observe(name).state == "failed", what="the job ends")


def test_a_base_model_that_does_not_exist_fails_the_run_at_once(trainer: Trainer, dataset: DatasetRef) -> None:
    trainer.prepare(dataset, base_model="gpt-9")
    run = trainer.until("failed", timeout=60)

    assert run.attempt == 1
    (failed,) = trainer.said("training.failed.v1")
    assert "the base model gpt-9 is not in S3" in failed["reason"]


def test_what_another_installation_left_under_the_same_name_is_not_taken(
    trainer: Trainer, dataset: DatasetRef
) -> None:
    trainer.prepare(dataset)
    prefix = f"runs/{trainer.run().id}/1/"
    trainer.store.put_bytes(f"{prefix}job.json", b'{"recipe": "of another pipeline with this name and version"}')
    trainer.store.put_bytes(f"{prefix}result.json", b'{"adapter": "of other rows"}')

    trainer.until("failed", timeout=20)
    (failed,) = trainer.said("training.failed.v1")
    assert f"{prefix}job.json" in failed["reason"]
    assert "another installation" in failed["reason"]
