"""The registry's handlers on SQLite and PostgreSQL, fed through the inbox."""

import itertools
import random
import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from services.registry.handlers import handlers
from services.registry.models import Base, Dataset, Evaluation, ModelVersion, PipelineVersion, Rollout, Run
from shared.clock import SystemClock, VirtualClock
from shared.db import reading, transaction
from shared.events import DatasetPublished, Payload, TrainingRetried, payload_types
from tests.support import facts
from tests.support.db import schema_differences
from tests.support.delivery import START, deliver, fact, process_all, receive, said, unhandled
from tests.support.metrics import risen, shown

pytestmark = pytest.mark.integration


def stages(engine: Engine) -> dict[str, str]:
    with reading(engine) as session:
        return {row.id: row.stage for row in session.exec(select(ModelVersion)).all()}


def test_the_migrations_match_the_tables_here_too(engine: Engine) -> None:
    assert schema_differences(engine, Base.metadata) == []


def test_everything_that_is_addressed_to_the_registry_has_a_handler() -> None:
    assert handlers.types == sorted(name for name, cls in payload_types().items() if "registry" in cls.CONSUMERS)


def test_a_whole_loop_is_recorded(engine: Engine) -> None:
    deliver(
        engine, handlers, fact(facts.published()), fact(facts.prepared(), sequence=2), fact(facts.started()),
        fact(facts.progressed(), sequence=2), fact(facts.completed(), sequence=3), fact(facts.evaluated()),
        fact(facts.promoted("intents@1")),
    )
    with reading(engine) as session:
        dataset, run = session.get_one(Dataset, "data-1"), session.get_one(Run, "run-1")
        evaluation = session.get_one(Evaluation, "eval-1")
        model = session.get_one(ModelVersion, "intents@1")
        rollout = session.get_one(Rollout, "intents-r1")
    assert (dataset.state, dataset.rows, dataset.source_sha256) == ("prepared", facts.dataset_ref().rows,
                                                                    "sha256:" + "c" * 64)
    assert (run.state, run.step, run.loss, run.dataset_digest) == ("completed", 40, 0.5, dataset.artifact_digest)
    assert (evaluation.state, evaluation.run_id) == ("passed", "run-1")
    assert (model.stage, model.adapter_digest, model.correlation_id) == ("production", run.adapter_digest, "loop-1")
    assert rollout.state == "promoted"
    assert [type_ for type_, _ in said(engine)] == [
        "pipeline.applied.v1", "model.registered.v1", "model.stage_changed.v1",
    ]


def test_topics_may_overtake_each_other(engine: Engine) -> None:
    loop = [
        fact(facts.published()), fact(facts.prepared(), sequence=2), fact(facts.started()),
        fact(facts.progressed(), sequence=2), fact(facts.completed(), sequence=3), fact(facts.evaluated()),
    ]
    random.Random(7).shuffle(loop)
    deliver(engine, handlers, *loop)
    with reading(engine) as session:
        dataset, run = session.get_one(Dataset, "data-1"), session.get_one(Run, "run-1")
    assert (dataset.state, dataset.name, dataset.rows_in) == ("prepared", "good.jsonl", 102)
    assert (run.state, run.step, run.job, run.loss, run.total_steps) == ("completed", 40, "train-run-1-1", 0.5, 40)
    assert run.started_at == START
    assert stages(engine) == {"intents@1": "candidate"}


def test_late_progress_does_not_reopen_a_finished_run(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.started()), fact(facts.completed(), sequence=3))
    deliver(engine, handlers, fact(facts.progressed(step=30), sequence=2, time=START + timedelta(minutes=5)))
    with reading(engine) as session:
        run = session.get_one(Run, "run-1")
    assert (run.state, run.step, run.sequence, run.updated_at) == ("completed", 40, 3, START)


def test_someone_elses_publication_is_older_than_the_preparation(engine: Engine) -> None:
    """Both have sequence 1, because each source counts its own facts."""
    deliver(engine, handlers, fact(facts.prepared(), sequence=1))
    deliver(engine, handlers, fact(facts.published(), sequence=1))
    with reading(engine) as session:
        dataset = session.get_one(Dataset, "data-1")
    assert (dataset.state, dataset.source_sha256) == ("prepared", "sha256:" + "c" * 64)


def test_a_rejection_keeps_its_reasons(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.published()), fact(facts.rejected(), sequence=2))
    with reading(engine) as session:
        dataset = session.get_one(Dataset, "data-1")
    assert (dataset.state, dataset.reason) == ("rejected", "line 1: not JSON; too few rows")


def test_a_failed_run_keeps_its_reason(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.started()), fact(facts.failed(), sequence=2))
    with reading(engine) as session:
        run = session.get_one(Run, "run-1")
    assert (run.state, run.attempt, run.reason) == ("failed", 3, "out of memory at step 12")


def test_a_failed_run_that_is_retried_goes_on_and_may_end_well(engine: Engine) -> None:
    retried = TrainingRetried(run_id="run-1", pipeline="intents", pipeline_version=1, attempt=4, reason="more memory")
    deliver(engine, handlers, fact(facts.started()), fact(facts.failed(), sequence=2), fact(retried, sequence=3))
    with reading(engine) as session:
        run = session.get_one(Run, "run-1")
    assert (run.state, run.attempt, run.reason, run.finished_at) == ("pending", 4, "retried: more memory", None)
    deliver(engine, handlers, fact(facts.started(attempt=4), sequence=4))
    deliver(engine, handlers, fact(retried, sequence=3))
    with reading(engine) as session:
        assert session.get_one(Run, "run-1").state == "running"
    deliver(engine, handlers, fact(facts.completed(), sequence=5))
    with reading(engine) as session:
        assert session.get_one(Run, "run-1").state == "completed"


def test_what_did_not_pass_gets_no_version(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.evaluated(passed=False)))
    with reading(engine) as session:
        evaluation = session.get_one(Evaluation, "eval-1")
    assert (evaluation.state, evaluation.reason) == ("refused", "exact_match >= 0.5: 0.1 < 0.5")
    assert stages(engine) == {}


def test_an_evaluation_makes_one_version_however_often_it_is_told(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.evaluated(), sequence=1), fact(facts.evaluated(), sequence=2))
    assert stages(engine) == {"intents@1": "candidate"}
    assert [type_ for type_, _ in said(engine)].count("model.registered.v1") == 1


def test_a_reward_model_gets_a_version_and_no_rollout(engine: Engine) -> None:
    with transaction(engine) as session:
        version = session.get_one(PipelineVersion, ("intents", 1))
        version.spec = {**version.spec, "training": {"objective": "reward"}}
    deliver(engine, handlers, fact(facts.evaluated()))
    assert stages(engine) == {"intents@1": "candidate"}
    assert "model.registered.v1" not in [type_ for type_, _ in said(engine)]


def test_an_evaluation_of_an_unknown_pipeline_waits_for_a_person(engine: Engine) -> None:
    foreign = facts.evaluated().model_copy(update={"pipeline": "other"})
    deliver(engine, handlers, fact(foreign))
    assert unhandled(engine) == {
        "evaluation.completed.v1":
            "dead: PermanentError: evaluation eval-1 is of pipeline 'other', which was never applied here"
    }


def test_promotion_archives_the_previous_version(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.evaluated(1)), fact(facts.evaluated(2)), fact(facts.promoted("intents@1")),
            fact(facts.promoted("intents@2", previous="intents@1")))
    assert stages(engine) == {"intents@1": "archived", "intents@2": "production"}
    changes = [(data["model"]["model_version"], data["previous"], data["stage"]) for type_, data in said(engine)
               if type_ == "model.stage_changed.v1"]
    assert changes == [
        ("intents@1", "candidate", "production"),
        ("intents@1", "production", "archived"),
        ("intents@2", "candidate", "production"),
    ]


def test_a_promotion_that_overtakes_the_one_before_it_waits(engine: Engine) -> None:
    clock = VirtualClock(START)
    deliver(engine, handlers, fact(facts.evaluated(1)), fact(facts.evaluated(2)), clock=clock)
    deliver(engine, handlers, fact(facts.promoted("intents@2", previous="intents@1")), clock=clock)
    assert stages(engine) == {"intents@1": "candidate", "intents@2": "candidate"}
    deliver(engine, handlers, fact(facts.promoted("intents@1")), clock=clock)
    clock.advance(120)
    process_all(engine, handlers, clock)
    assert stages(engine) == {"intents@1": "archived", "intents@2": "production"}
    assert unhandled(engine) == {}


def test_a_rolled_back_version_leaves_production_alone(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.evaluated(1)), fact(facts.evaluated(2)), fact(facts.promoted("intents@1")),
            fact(facts.rolled_back("intents@2")))
    assert stages(engine) == {"intents@1": "production", "intents@2": "rolled_back"}
    with reading(engine) as session:
        rollout = session.get_one(Rollout, "intents-r2")
    assert (rollout.guardrail, rollout.users_exposed, rollout.evidence) == ("errors", 7, {"e_harm": 43.0})


def test_versions_that_are_registered_at_once_get_distinct_numbers(engine: Engine) -> None:
    count = 12
    receive(engine, handlers, [fact(facts.evaluated(number)) for number in range(1, count + 1)])
    _process_in_threads(engine)
    assert sorted(stages(engine), key=lambda name: int(name.split("@")[1])) == [
        f"intents@{number}" for number in range(1, count + 1)
    ]
    assert unhandled(engine) == {}


def test_promotions_at_once_leave_exactly_one_in_production(engine: Engine) -> None:
    count = 6
    deliver(engine, handlers, *(fact(facts.evaluated(number)) for number in range(1, count + 1)))
    names = [f"intents@{number}" for number in range(1, count + 1)]
    # None names what it replaced, so that any order is allowed and all of them race.
    receive(engine, handlers, [fact(facts.promoted(name)) for name in names])
    _process_in_threads(engine)
    assert sorted(stages(engine).values()) == ["archived"] * (count - 1) + ["production"]
    assert unhandled(engine) == {}


def _process_in_threads(engine: Engine, threads: int = 4) -> None:
    barrier = threading.Barrier(threads)
    errors: list[BaseException] = []

    def work() -> None:
        barrier.wait()
        try:
            process_all(engine, handlers, SystemClock())
        except BaseException as error:  # noqa: BLE001 - a thread's error must fail the test
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert errors == []


def test_the_database_itself_refuses_a_second_production(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.evaluated(1)), fact(facts.evaluated(2)))
    with pytest.raises(IntegrityError, match=r"(?i)unique"), transaction(engine) as session:
        session.connection().execute(update(ModelVersion).values(stage="production"))


def test_every_permutation_of_a_dataset_and_its_preparation(engine: Engine) -> None:
    for number, order in enumerate(itertools.permutations((True, False)), start=1):
        payloads: list[tuple[Payload, int]] = [
            (facts.published(number), 1) if first else (facts.prepared(number), 2) for first in order
        ]
        deliver(engine, handlers, *(fact(payload, sequence=sequence) for payload, sequence in payloads))
        with reading(engine) as session:
            assert session.get_one(Dataset, f"data-{number}").state == "prepared"


def test_a_publication_without_a_digest_is_recorded(engine: Engine) -> None:
    deliver(engine, handlers, fact(DatasetPublished(dataset_id="x", pipeline="intents", uri="s3://other/data.jsonl")))
    with reading(engine) as session:
        assert session.get_one(Dataset, "x").source_sha256 is None


def test_how_long_a_dataset_took_to_production_is_counted_once(engine: Engine) -> None:
    seconds, count, stage = (shown(name, pipeline="intents", **labels) for name, labels in (
        ("tuneloop_registry_dataset_to_production_seconds_sum", {}),
        ("tuneloop_registry_dataset_to_production_seconds_count", {}),
        ("tuneloop_registry_stage_changes_total", {"stage": "production"}),
    ))
    promoted = fact(facts.promoted("intents@1"), time=START + timedelta(minutes=90))
    again = fact(facts.promoted("intents@1"), sequence=2, time=START + timedelta(minutes=95))
    deliver(engine, handlers, fact(facts.prepared()), fact(facts.evaluated(1)), promoted, again)
    assert stages(engine) == {"intents@1": "production"}
    name = "tuneloop_registry_dataset_to_production_seconds"
    assert risen(f"{name}_count", count, pipeline="intents") == 1
    assert risen(f"{name}_sum", seconds, pipeline="intents") == 90 * 60
    assert risen("tuneloop_registry_stage_changes_total", stage, pipeline="intents", stage="production") == 1
