"""The evaluator with real jobs on a real S3: from a completed run to a verdict, whatever dies on the way."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlmodel import select

from services.cli.demo.data import make_rows
from services.evaluator.api import build_router
from services.evaluator.handlers import handlers
from services.evaluator.models import Base, Evaluation
from services.evaluator.reconcile import ACTIVE, Reconciler
from services.evaluator.settings import EvaluatorSettings
from shared.clock import SystemClock
from shared.db import reading
from shared.events import ArtifactRef, DatasetRef, ModelRef, ModelStageChanged, PipelineApplied, TrainingCompleted
from shared.launchers import launcher_from
from shared.launchers.folder import JobFolder
from shared.pipeline import parse_pipeline
from shared.reconcile import ReconcileLoop
from shared.s3 import ArtifactStore
from tests.support.adapters import write_adapter
from tests.support.apps import app_of
from tests.support.db import sqlite_engine
from tests.support.delivery import deliver, fact, said
from tests.support.metrics import shown
from tests.support.training import end_jobs, put_dataset
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

PIPELINE = """
apiVersion: tuneloop.dev/v1
kind: Pipeline
metadata: {{name: {name}}}
spec:
  baseModel: tiny
  evaluation:
    maxNewTokens: 6
    gates:
      - {{metric: exact_match, min: 0.9}}
      - {{metric: exact_match, versus: base, minDelta: 0.5}}
      - {{metric: exact_match, on: production_heldout, versus: production, minDelta: -0.1}}
"""


class Evaluator:
    """The service's loop and API over a database, with the subprocess launcher and a real S3."""

    def __init__(
        self, engine: Engine, store: ArtifactStore, settings: EvaluatorSettings, *, model: Path, tmp: Path
    ) -> None:
        self.engine, self.store, self.settings, self.model, self.tmp = engine, store, settings, model, tmp
        # Of its own per test: the bucket is shared, and the same work has the same name.
        self.name = name = "p-" + hashlib.sha256(str(tmp).encode()).hexdigest()[:10]
        spec = parse_pipeline(PIPELINE.format(name=name)).spec
        self.hear(PipelineApplied(pipeline=name, version=1, digest="sha256:" + "0" * 64, spec=spec))

    def hear(self, payload: Any) -> None:
        deliver(self.engine, handlers, fact(payload), clock=SystemClock())

    def trained(self, run: str, adapter: ArtifactRef, dataset: DatasetRef) -> None:
        """A run of this pipeline has completed."""
        base = self.store.manifest(f"s3://{self.store.bucket}/base-models/tiny/")
        assert base is not None
        self.hear(TrainingCompleted(
            run_id=f"{self.name}-{run}", pipeline=self.name, pipeline_version=1, dataset=dataset, base_model="tiny",
            base_model_digest=base.digest, adapter=adapter, attempt=1, steps=10,
        ))

    def in_production(self, adapter: ArtifactRef, dataset: DatasetRef) -> None:
        model = ModelRef(model_version=f"{self.name}@1", base_model="tiny", artifact=adapter, dataset=dataset)
        self.hear(ModelStageChanged(model=model, pipeline=self.name, stage="production", previous="candidate"))

    def adapter(self, seed: int) -> ArtifactRef:
        """An adapter in S3 that makes the tiny model say something else."""
        folder = write_adapter(self.tmp / f"adapter-{seed}", self.model, seed=seed)
        return self.store.put_dir("adapters", folder)

    def dataset(self, name: str, answers: Sequence[str] = ()) -> DatasetRef:
        """A dataset with 12 held-out questions, and these answers to them where given."""
        rows = make_rows("good", 14, seed=5)
        test = rows[:12]
        for row, answer in zip(test, answers, strict=False):
            row["messages"][-1]["content"] = answer
        return put_dataset(self.store, self.tmp / name, train=rows[12:13], validation=rows[13:], test=test)

    def look(self) -> None:
        """One look by an evaluator that has just started and knows nothing but what its database says."""
        reconcile = Reconciler(self.engine, self.store, launcher_from(self.settings), SystemClock(),
                               timeout_seconds=self.settings.evaluation_timeout_seconds)
        ReconcileLoop(name="evaluations", engine=self.engine, model=Evaluation, states=ACTIVE, owner="test",
                      clock=SystemClock(), reconcile=reconcile).step()

    def row(self, run: str) -> Evaluation:
        with reading(self.engine) as session:
            return session.exec(select(Evaluation).where(Evaluation.run_id == f"{self.name}-{run}")).one()

    def until(self, run: str, state: str) -> Evaluation:
        """Look until the evaluation of a run is in this state."""

        def probe() -> Evaluation | None:
            self.look()
            row = self.row(run)
            return row if row.state == state else None

        return eventually(probe, timeout=120, interval=0.2, what=f"the evaluation of {run} is {state}")

    def answers(self, row: Evaluation, subject: str) -> list[str]:
        """What a subject said to the held-out rows, by the rows' numbers."""
        lines = [json.loads(line) for line in self.store.get_bytes(row.report_uri).decode().splitlines()]
        said = {line["id"]: str(line["predicted"][subject]) for line in lines if line["on"] == "heldout"}
        return [said[f"test-{number}"] for number in range(len(said))]

    def said(self, type_: str) -> list[dict[str, Any]]:
        return [payload for name, payload in said(self.engine) if name == type_]


@pytest.fixture
def evaluator(store: ArtifactStore, job_cache: Path, tiny_model: Path, tmp_path: Path) -> Iterator[Evaluator]:
    settings = EvaluatorSettings(launcher_dir=tmp_path / "jobs", cache_dir=job_cache)
    with sqlite_engine(Base.metadata) as engine:
        yield Evaluator(engine, store, settings, model=tiny_model, tmp=tmp_path)
        end_jobs(settings)


def metrics(row: Evaluation) -> dict[tuple[str, str], dict[str, float]]:
    return {(item["subject"], item["on"]): item["metrics"] for item in row.measurements}


def test_an_adapter_that_answers_right_passes_and_one_that_answers_otherwise_does_not(evaluator: Evaluator) -> None:
    # What is right is here what the first adapter says, so that its score is known exactly.
    first, second = evaluator.adapter(1), evaluator.adapter(2)
    evaluator.trained("asked", first, evaluator.dataset("unanswered"))
    asked = evaluator.until("asked", "completed")
    assert asked.passed is False
    assert metrics(asked)["candidate", "heldout"]["exact_match"] == 0
    answers = evaluator.answers(asked, "candidate")
    assert all(answers)

    answered = evaluator.dataset("answered", answers)
    evaluator.trained("right", first, answered)
    right = evaluator.until("right", "completed")
    assert right.passed is True, right.gates
    assert metrics(right)["candidate", "heldout"]["exact_match"] == 1
    assert metrics(right)["base", "heldout"]["exact_match"] <= 0.5
    assert 1 < metrics(right)["candidate", "heldout"]["perplexity"] < metrics(right)["base", "heldout"]["perplexity"]

    # Its rows say that the second one is right as well; on production's own rows it is not.
    evaluator.in_production(first, answered)
    others = evaluator.dataset("others", evaluator.answers(right, "base"))
    evaluator.trained("other", second, others)
    other = evaluator.until("other", "completed")
    assert other.passed is False
    assert metrics(other)["production", "production_heldout"]["exact_match"] == 1
    assert metrics(other)["candidate", "production_heldout"]["exact_match"] <= 0.5
    versus_production = other.gates[2]
    assert versus_production["passed"] is False
    assert f"production ({evaluator.name}@1) 1" in versus_production["reason"]

    told = evaluator.said("evaluation.completed.v1")
    assert [item["passed"] for item in told] == [False, True, False]
    assert [item["production_model_version"] for item in told] == [None, None, f"{evaluator.name}@1"]
    with TestClient(app_of(evaluator.settings, build_router, evaluator.engine)) as client:
        answer = client.get(f"/v1/evaluations/{right.id}").json()
    assert (answer["state"], answer["passed"], answer["attempt"]) == ("completed", True, 1)
    ended = {outcome: shown("tuneloop_evaluator_evaluations_total", pipeline=evaluator.name, outcome=outcome)
             for outcome in ("passed", "refused", "failed")}
    assert ended == {"passed": 1, "refused": 2, "failed": 0}
    assert shown("tuneloop_evaluator_job_seconds_count", pipeline=evaluator.name) == 3


def test_a_job_that_is_killed_is_followed_by_another(evaluator: Evaluator) -> None:
    evaluator.trained("killed", evaluator.adapter(1), evaluator.dataset("rows"))
    evaluator.until("killed", "running")
    (folder,) = evaluator.settings.launcher_dir.iterdir()
    process = eventually(JobFolder(folder).job, what="the job's process")
    os.kill(process.pid, signal.SIGKILL)

    row = evaluator.until("killed", "completed")
    assert row.attempt == 2
    assert row.note.startswith("the job was killed or crashed")
    assert len(evaluator.said("evaluation.completed.v1")) == 1
    assert evaluator.said("evaluation.failed.v1") == []


def test_an_adapter_that_is_not_what_its_digest_says_is_not_measured(evaluator: Evaluator) -> None:
    adapter = evaluator.adapter(3)
    evaluator.store.put_bytes(f"{adapter.uri}adapter_model.safetensors", b"not what was trained")
    evaluator.trained("damaged", adapter, evaluator.dataset("rows"))

    row = evaluator.until("damaged", "failed")
    assert row.attempt == 1, "the same bytes would be wrong again"
    (failed,) = evaluator.said("evaluation.failed.v1")
    assert "adapter_model.safetensors" in failed["reason"]
    assert adapter.uri in failed["reason"]
    assert evaluator.said("evaluation.completed.v1") == []


def test_an_adapter_for_another_base_model_is_a_failure_that_says_so(evaluator: Evaluator) -> None:
    adapter, dataset = evaluator.adapter(1), evaluator.dataset("rows")
    evaluator.hear(ModelStageChanged(
        model=ModelRef(model_version=f"{evaluator.name}@1", base_model="other", artifact=adapter, dataset=dataset),
        pipeline=evaluator.name, stage="production", previous="candidate",
    ))
    evaluator.trained("other-base", adapter, dataset)

    evaluator.until("other-base", "failed")
    (failed,) = evaluator.said("evaluation.failed.v1")
    assert f"production {evaluator.name}@1 was made for the base model other" in failed["reason"]
    assert not evaluator.settings.launcher_dir.exists(), "no job was needed to see that"
