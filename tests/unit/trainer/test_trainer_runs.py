"""A run's life under a virtual clock: a scripted launcher and a dictionary for S3 stand for the outside."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest.mock import ANY

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

import services.trainer
from services.trainer.admission import admit
from services.trainer.api import build_router
from services.trainer.handlers import handlers
from services.trainer.models import Base, Run
from services.trainer.reconcile import RunReconciler
from services.trainer.settings import TrainerSettings
from shared.clock import VirtualClock
from shared.db import reading, transaction
from shared.errors import InvalidInputError, NotFoundError, TemporaryError
from shared.events import Event, ModelRef, ModelStageChanged, PipelineApplied
from shared.launchers import JobSpec, JobState, JobStatus
from shared.leases import Lease, interrupt
from shared.pipeline import PipelineSpec, parse_pipeline
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from shared.service import Runtime
from tests.support import facts
from tests.support.apps import app_of
from tests.support.db import assert_migrations_match, sqlite_engine
from tests.support.delivery import START, deliver, fact, said, unhandled
from tests.support.metrics import risen, shown

RUN = f"intents-v1-{facts.dataset_ref().artifact.digest[7:19]}"


class ScriptedLauncher:
    """Jobs are in the state that the test says."""

    def __init__(self) -> None:
        self.states: dict[str, JobState] = {}
        self.launched: list[str] = []
        self.cancelled: list[str] = []
        self.specs: list[JobSpec] = []
        self.refusal: Exception | None = None
        self.message = ""

    def launch(self, spec: JobSpec) -> None:
        if self.refusal is not None:
            raise self.refusal
        if spec.name not in self.states:
            self.specs.append(spec)
            self.launched.append(spec.name)
            self.states[spec.name] = "running"

    def observe(self, name: str) -> JobStatus:
        return JobStatus(state=self.states.get(name, "absent"), message=self.message, logs=f"read {name}")

    def cancel(self, name: str) -> None:
        self.cancelled.append(name)

    def logs(self, name: str) -> str:
        return ""


class Objects:
    """The two calls that the service makes to S3."""

    bucket = "tuneloop"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        self.objects[f"s3://{self.bucket}/{key}"] = data
        return f"s3://{self.bucket}/{key}"

    def get_bytes(self, uri: str) -> bytes:
        if uri not in self.objects:
            raise NotFoundError(uri)
        return self.objects[uri]


class World:
    """The trainer with everything around it."""

    def __init__(self, engine: Engine, **settings: Any) -> None:
        self.engine = engine
        self.clock = VirtualClock(START)
        self.launcher = ScriptedLauncher()
        self.store = Objects()
        self.settings = TrainerSettings(**settings)

    def looks(self, count: int = 1) -> None:
        """Let a trainer that has just started look `count` times; each has forgotten all that is not in a row."""
        for _ in range(count):
            runtime = Runtime(self.settings, self.engine, cast(ArtifactStore, self.store), self.clock, "me")
            RunReconciler(runtime, self.launcher).loop().step()
            self.clock.advance(self.settings.reconcile_interval_seconds + 0.01)

    def writes(self, name: str, content: dict[str, Any], attempt: int = 1) -> None:
        self.store.put_bytes(f"runs/{RUN}/{attempt}/{name}", json.dumps(content).encode())

    def run(self) -> Run:
        with reading(self.engine) as session:
            run = session.get(Run, RUN)
            assert run is not None
            return run

    def types(self) -> list[str]:
        return [type_ for type_, _ in said(self.engine)]


@pytest.fixture
def world() -> Iterator[World]:
    with sqlite_engine(Base.metadata) as engine:
        made = World(engine)
        spec = parse_pipeline(facts.PIPELINE).spec
        applied = PipelineApplied(pipeline="intents", version=1, digest="sha256:" + "0" * 64, spec=spec)
        deliver(engine, handlers, fact(applied), fact(facts.prepared()))
        yield made


RESULT = {"adapter": facts.artifact("adapters", 1).model_dump(), "base_model_digest": facts.BASE_DIGEST, "steps": 40,
          "metrics": {"loss": 0.1}}


def test_migrations_make_the_tables() -> None:
    assert_migrations_match(Path(services.trainer.__file__).parent / "migrations", Base.metadata)


def test_a_prepared_dataset_is_trained_on_once_however_often_it_is_told(world: World) -> None:
    deliver(world.engine, handlers, fact(facts.prepared(), sequence=2))
    world.looks(3)
    assert world.launcher.launched == [f"train-{RUN}-1"]
    job = json.loads(world.store.objects[f"s3://tuneloop/runs/{RUN}/1/job.json"])
    assert job["resume_from"] == [f"runs/{RUN}/1/checkpoints/"]
    world.writes("result.json", RESULT)
    world.looks()
    assert world.types() == ["training.started.v1", "training.completed.v1"]
    assert world.run().state == "completed"


def test_a_dataset_before_its_pipeline_waits_for_it() -> None:
    with sqlite_engine(Base.metadata) as engine:
        deliver(engine, handlers, fact(facts.prepared()))
        assert "has not arrived here yet" in unhandled(engine)["dataset.prepared.v1"]


def test_a_job_that_vanished_is_tried_again_from_its_checkpoints(world: World) -> None:
    world.looks()
    world.launcher.states[f"train-{RUN}-1"] = "failed"
    world.looks()
    assert (world.run().state, world.run().attempt) == ("pending", 2)
    world.looks()
    assert world.launcher.launched == [f"train-{RUN}-1"], "the second attempt waits for its backoff"
    world.clock.advance(5)
    world.looks()
    assert world.launcher.launched[1] == f"train-{RUN}-2"
    job = json.loads(world.store.objects[f"s3://tuneloop/runs/{RUN}/2/job.json"])
    assert job["resume_from"] == [f"runs/{RUN}/2/checkpoints/", f"runs/{RUN}/1/checkpoints/"]


def production(number: int) -> Event[Any]:
    model = ModelRef(model_version=f"intents@{number}", base_model="tiny", dataset=facts.dataset_ref(number + 10),
                     artifact=facts.artifact("adapters", number + 10))
    data = ModelStageChanged(model=model, pipeline="intents", stage="production", previous="candidate")
    return fact(data, time=START + timedelta(minutes=number))


def continuing(engine: Engine, **training: Any) -> World:
    spec = PipelineSpec.model_validate({"baseModel": "tiny", "training": {"startFrom": "production", **training}})
    applied = PipelineApplied(pipeline="intents", version=1, digest="sha256:" + "0" * 64, spec=spec)
    deliver(engine, handlers, fact(applied), fact(facts.prepared()))
    return World(engine)


def test_all_attempts_learn_from_what_was_in_production_before_the_first() -> None:
    with sqlite_engine(Base.metadata) as engine:
        world = continuing(engine, forgetting={"ewc": {}})
        deliver(engine, handlers, production(1))
        world.looks()
        deliver(engine, handlers, production(2))
        world.launcher.states[f"train-{RUN}-1"] = "failed"
        world.looks()
        world.clock.advance(5)
        world.looks()
        jobs = [json.loads(world.store.objects[f"s3://tuneloop/runs/{RUN}/{attempt}/job.json"]) for attempt in (1, 2)]
        expected = {"start": facts.artifact("adapters", 11).model_dump(),
                    "earlier": facts.dataset_ref(11).artifact.model_dump()}
        assert [{key: job[key] for key in expected} for job in jobs] == [expected, expected]
        world.writes("result.json", RESULT, attempt=2)
        world.looks()
        assert [{key: payload[key] for key in expected} for _, payload in said(engine)] == [expected] * 3


def test_a_start_that_nobody_knows_ends_the_run_before_its_launch() -> None:
    with sqlite_engine(Base.metadata) as engine:
        world = continuing(engine, startFrom="intents@9")
        world.looks()
        assert (world.launcher.launched, world.run().state) == ([], "failed")
        assert "training.startFrom: no model version intents@9 is known here" in (world.run().reason or "")


def test_after_the_last_attempt_the_run_fails_with_the_reason(world: World) -> None:
    for attempt in (1, 2, 3):
        world.looks()
        world.writes("failure.json", {"message": "out of memory"}, attempt)
        world.looks()
        world.clock.advance(60)
    assert world.run().state == "failed"
    assert said(world.engine)[-1][1]["reason"] == "attempt 3 of 3: out of memory"


def test_a_permanent_failure_is_not_tried_again(world: World) -> None:
    world.looks()
    world.writes("failure.json", {"message": "the loss became NaN", "permanent": True})
    world.looks(5)
    assert world.types() == ["training.started.v1", "training.failed.v1"]
    assert len(world.launcher.launched) == 1


def test_progress_is_told_in_order_and_rarely(world: World) -> None:
    world.looks()
    for step in range(1, 20):
        world.writes("progress.json", {"step": step, "total_steps": 40, "loss": 1 / step})
        world.looks()
    steps = [payload["step"] for type_, payload in said(world.engine) if type_ == "training.progressed.v1"]
    assert steps == sorted(steps)
    assert len(steps) == 4, "one every five seconds, in nineteen"


def test_a_cancelled_run_ends_with_the_persons_reason(world: World) -> None:
    world.looks()
    with transaction(world.engine) as session:
        interrupt(session, Run, RUN, cancelled_because="wrong data")
    world.looks()
    assert world.launcher.cancelled == [f"train-{RUN}-1"]
    assert world.run().state == "cancelled"
    assert said(world.engine)[-1][1]["reason"] == "cancelled: wrong data"


def test_the_job_gets_what_the_recipe_asks_for_and_says_whose_it_is(world: World) -> None:
    recipe = parse_pipeline(facts.PIPELINE).spec.training.model_dump(mode="json", by_alias=True)
    asked = {"gpu": 1, "memory": "24Gi", "cpu": 4, "hardware": "a100"}
    with transaction(world.engine) as session:
        run = session.get(Run, RUN)
        assert run is not None
        run.recipe = {**recipe, "resources": asked}
    world.looks()
    (spec,) = world.launcher.specs
    assert (spec.gpu, spec.memory, spec.cpu, spec.hardware) == (1, 24 * 2**30, 4, "a100")
    assert spec.labels == {"run": RUN, "attempt": "1", "pipeline": "intents"}
    assert spec.timeout_seconds == world.settings.training_timeout_seconds


def test_a_job_that_can_never_be_launched_fails_the_run_with_the_reason(world: World) -> None:
    world.launcher.refusal = InvalidInputError("no hardware class 'h100'")
    world.looks(3)
    assert said(world.engine) == [("training.failed.v1", ANY)]
    assert world.run().reason == "the job cannot be launched: no hardware class 'h100'"


def test_a_job_that_cannot_be_launched_now_is_launched_later(world: World) -> None:
    world.launcher.refusal = TemporaryError("the Kubernetes API did not answer")
    world.looks(2)
    assert (world.run().state, world.launcher.launched) == ("pending", [])
    world.launcher.refusal = None
    world.clock.advance(60)
    world.looks()
    assert world.launcher.launched == [f"train-{RUN}-1"]


def test_a_run_says_what_its_job_waits_for_and_how_to_read_its_log(world: World) -> None:
    world.looks()
    world.launcher.message = "queued: it waits for its turn"
    world.looks()
    assert (world.run().waits_for, world.run().logs) == ("queued: it waits for its turn", f"read train-{RUN}-1")
    world.launcher.message = ""
    world.looks()
    assert world.run().waits_for is None


def test_a_second_run_waits_for_the_first(world: World) -> None:
    other = facts.dataset_ref(2).model_copy(update={"artifact": facts.artifact("datasets", 16**60)})
    deliver(world.engine, handlers, fact(facts.prepared(2).model_copy(update={"dataset": other})))
    world.looks(6)
    assert len(world.launcher.launched) == 1
    world.writes("result.json", RESULT)
    world.looks(6)
    assert len(world.launcher.launched) == 2


def change_recipe(world: World, run_id: str = RUN, **changes: Any) -> None:
    with transaction(world.engine) as session:
        run = session.get(Run, run_id)
        assert run is not None
        run.recipe = TrainingRecipe.model_validate({**run.recipe, **changes}).model_dump(mode="json", by_alias=True)


def another_run(world: World, number: int = 2) -> str:
    """A run of other rows that waits."""
    other = facts.dataset_ref(number).model_copy(update={"artifact": facts.artifact("datasets", number * 16**60)})
    deliver(world.engine, handlers, fact(facts.prepared(number).model_copy(update={"dataset": other})))
    return f"intents-v1-{other.artifact.digest[7:19]}"


def test_the_higher_priority_goes_first_and_the_other_says_what_it_waits_for(world: World) -> None:
    other = another_run(world)
    change_recipe(world, other, priority=5)
    world.looks(4)
    assert world.launcher.launched == [f"train-{other}-1"]
    assert world.run().waits_for == ("queued with priority 0: 1 of 1 places of hardware class default are taken, and 0 "
                                     "other runs wait for one")


def test_each_hardware_class_has_its_own_places(world: World) -> None:
    world.settings = TrainerSettings(concurrent_runs={"a100": 1})
    change_recipe(world, another_run(world), resources={"hardware": "a100"})
    change_recipe(world, another_run(world, 3), resources={"hardware": "a100"})
    world.looks(6)
    assert len(world.launcher.launched) == 2, "one on each class"


def test_a_run_keeps_its_place_between_its_attempts(world: World) -> None:
    world.looks()
    another_run(world)
    world.launcher.states[f"train-{RUN}-1"] = "failed"
    world.looks(4)
    assert world.launcher.launched == [f"train-{RUN}-1", f"train-{RUN}-2"]


def test_trainers_side_by_side_give_a_place_once(world: World) -> None:
    """The second decides while the first has launched nothing yet."""
    other = another_run(world)
    runtime = Runtime(world.settings, world.engine, cast(ArtifactStore, world.store), world.clock, "me")
    with transaction(world.engine) as session:
        rows = [session.get_one(Run, name) for name in (RUN, other)]
        for row in rows:
            row.lease_epoch = 1
    admitted = []
    for row in rows:
        with transaction(runtime.engine) as session:
            admitted.append(admit(session, row, Lease(row.id, "me", 1), world.settings, world.clock.now()))
        change_recipe(world, other, priority=9)
    assert admitted == [True, False]


def test_a_run_at_its_limit_is_stopped_ends_with_its_job_and_may_be_retried(world: World) -> None:
    change_recipe(world, limits={"time": "10s"})
    world.looks(2)
    world.clock.advance(8)
    world.looks(3)
    assert world.launcher.cancelled, "asked to end"
    assert world.run().state == "running", "it saves a checkpoint first"
    world.launcher.states[f"train-{RUN}-1"] = "failed"
    world.looks()
    assert (world.run().state, world.run().attempt) == ("failed", 1), "no other attempt"
    reason = world.run().reason or ""
    assert re.search(r"stopped at its limit: it has worked for 1\d s, and training.limits.time is 10 s", reason)
    retry(world, "there is time after all")
    world.looks(2)
    assert world.launcher.launched == [f"train-{RUN}-1", f"train-{RUN}-2"]
    job = json.loads(world.store.objects[f"s3://tuneloop/runs/{RUN}/2/job.json"])
    assert job["resume_from"][1] == f"runs/{RUN}/1/checkpoints/"
    world.looks(5)
    assert world.run().state == "running", "its ten seconds began again"
    assert world.types()[-3:] == ["training.failed.v1", "training.retried.v1", "training.started.v1"]


def test_a_limit_of_costs_needs_a_price(world: World) -> None:
    change_recipe(world, limits={"cost": 2}, resources={"gpu": 2, "hardware": "a100"})
    world.looks(2)
    assert world.run().state == "failed"
    assert "TUNELOOP_HOURLY_PRICES has no price for hardware class a100" in (world.run().reason or "")
    world.settings = TrainerSettings(hourly_prices={"a100": 1.5})
    retry(world, "it has one now")
    world.looks(2)
    world.clock.advance(3600)
    world.looks(2)
    assert "it has cost 3" in (world.run().stopped_because or "")


def test_a_retried_run_has_all_its_attempts_again(world: World) -> None:
    for attempt in (1, 2, 3):
        world.looks()
        world.writes("failure.json", {"message": "out of memory"}, attempt)
        world.looks()
        world.clock.advance(60)
    retry(world, "a larger machine")
    assert retry_answer(world, "again").status_code == 409
    world.looks(2)
    world.writes("failure.json", {"message": "out of memory"}, 4)
    world.looks()
    assert (world.run().state, world.run().attempt, world.run().retried_because) == ("pending", 5, "a larger machine")


def retry_answer(world: World, reason: str) -> Any:
    api = app_of(world.settings, lambda r: build_router(r, world.launcher), world.engine)
    with TestClient(api) as client:
        return client.post(f"/v1/runs/{RUN}/retry", json={"reason": reason})


def retry(world: World, reason: str) -> None:
    answer = retry_answer(world, reason)
    assert answer.status_code == 202, answer.text


def test_ends_queues_and_durations_are_counted_by_pipeline(world: World) -> None:
    names = ("tuneloop_trainer_runs_total", "tuneloop_trainer_queue_seconds_sum", "tuneloop_trainer_run_seconds_sum",
             "tuneloop_trainer_lost_attempts_total")
    labels: list[dict[str, str]] = [{"pipeline": "intents"} | ({"outcome": "completed"} if name.endswith("runs_total")
                                    else {}) for name in names]
    before = [shown(name, **of) for name, of in zip(names, labels, strict=True)]
    assert None not in before, "they exist since the pipeline was applied"
    world.clock.advance(30)
    world.looks()
    world.launcher.states[f"train-{RUN}-1"] = "failed"
    world.looks()
    world.clock.advance(60)
    world.looks()
    world.writes("result.json", RESULT, attempt=2)
    world.looks(2)
    took = 60 + 3 * (world.settings.reconcile_interval_seconds + 0.01)
    rises = [risen(name, was, **of) for name, was, of in zip(names, before, labels, strict=True)]
    assert rises == [1, pytest.approx(30), pytest.approx(took), 1]
