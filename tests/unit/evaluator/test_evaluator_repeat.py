"""Measuring production again: for drift, and on a schedule, with two replicas and missed ticks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from services.evaluator import decide
from services.evaluator.handlers import handlers
from services.evaluator.models import Base, Evaluation, Schedule
from services.evaluator.reconcile import job_file
from services.evaluator.repeat import ACTIVE, Scheduler
from shared.clock import VirtualClock
from shared.db import reading, transaction
from shared.events import DriftDetected, ModelRef, ModelStageChanged
from shared.leases import claim
from shared.reconcile import ReconcileLoop
from tests.support import drift, facts
from tests.support.db import sqlite_engine
from tests.support.delivery import START, deliver, fact, unhandled

NIGHTLY = {"reevaluate": {"cron": "0 3 * * *"}}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        yield made


def detected(action: str = "reevaluate") -> DriftDetected:
    return DriftDetected.model_validate({
        "drift_id": "intents-1-w7", "pipeline": "intents", "route": "intents", "model_version": "intents@1",
        "action": action, "reference": facts.artifact("datasets", 1).digest, "evidence": [], "window_began": START,
        "window_ended": START, "average_run": 1000,
    })


def in_production(engine: Engine, clock: VirtualClock, **triggers: Any) -> None:
    """Version 1 was evaluated and is in production."""
    model = ModelRef(model_version="intents@1", base_model="tiny", artifact=facts.artifact("adapters", 1),
                     dataset=facts.dataset_ref(1))
    staged = ModelStageChanged(model=model, pipeline="intents", stage="production", previous="candidate")
    deliver(engine, handlers, fact(drift.pipeline_applied(**triggers)), fact(facts.completed()), clock=clock)
    with transaction(engine) as session:
        session.get_one(Evaluation, "eval-run-1").passed = True
    deliver(engine, handlers, fact(staged), clock=clock)


def again(engine: Engine) -> list[Evaluation]:
    with reading(engine) as session:
        return list(session.exec(select(Evaluation).where(Evaluation.cause != "run").order_by(Evaluation.id)))


def test_drift_measures_production_on_the_newest_held_out_rows_once(engine: Engine) -> None:
    clock = VirtualClock(START)
    in_production(engine, clock)
    deliver(engine, handlers, fact(facts.prepared(2)), clock=clock)
    deliver(engine, handlers, fact(detected(), correlation_id="intents-1-w7"), clock=clock)
    deliver(engine, handlers, fact(detected(), sequence=2), clock=clock)
    (row,) = again(engine)
    assert (row.id, row.cause, row.model_version, row.correlation_id) == (
        "again-intents-1-intents-1-w7", "drift", "intents@1", "intents-1-w7",
    )
    job = job_file(row, "s3://tuneloop/evaluations/x/1/")
    assert (job.candidate, job.dataset, job.production) == (
        facts.artifact("adapters", 1), facts.dataset_ref(2), None,
    )
    assert job.fresh
    assert unhandled(engine) == {}


@pytest.mark.parametrize("action", ["retrain", "notify"])
def test_other_actions_measure_nothing(engine: Engine, action: str) -> None:
    in_production(engine, VirtualClock(START))
    deliver(engine, handlers, fact(detected(action)))
    assert again(engine) == []


def test_without_production_there_is_nothing_to_measure(engine: Engine) -> None:
    deliver(engine, handlers, fact(drift.pipeline_applied()), fact(detected()))
    assert again(engine) == []
    assert unhandled(engine) == {}


def loop(engine: Engine, clock: VirtualClock, owner: str = "a") -> ReconcileLoop[Schedule]:
    return ReconcileLoop(name="schedules", engine=engine, model=Schedule, states=(ACTIVE,), owner=owner, clock=clock,
                         reconcile=Scheduler(engine, clock), interval=1)


def work(engine: Engine, clock: VirtualClock, owner: str = "a") -> None:
    runner = loop(engine, clock, owner)
    while runner.step():
        pass


def test_each_tick_measures_once_and_those_that_were_missed_once_together(engine: Engine) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, 2, 0, tzinfo=UTC))
    in_production(engine, clock, **NIGHTLY)
    work(engine, clock)
    assert again(engine) == []
    clock.advance(3600)
    work(engine, clock)
    work(engine, clock, "b")
    assert [row.id for row in again(engine)] == ["again-intents-1-20260101t0300"]
    clock.advance(5 * 86_400 + 600)
    work(engine, clock)
    assert [row.id for row in again(engine)] == ["again-intents-1-20260101t0300", "again-intents-1-20260106t0300"]
    with reading(engine) as session:
        assert session.get_one(Schedule, "intents").next_look_at == datetime(2026, 1, 7, 3, tzinfo=UTC)


def test_a_replica_that_lost_its_lease_fires_nothing(engine: Engine) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, 2, 0, tzinfo=UTC))
    in_production(engine, clock, **NIGHTLY)
    clock.advance(3700)
    with transaction(engine) as session:
        slow = claim(session, Schedule, states=(ACTIVE,), owner="slow", now=clock.now(), ttl=timedelta(seconds=30))
    assert slow is not None
    clock.advance(60)
    work(engine, clock, "fast")
    (made,) = again(engine)
    with transaction(engine) as session:
        session.delete(session.get_one(Evaluation, made.id))
    Scheduler(engine, clock)(*slow)
    assert again(engine) == []


def test_a_pipeline_without_a_schedule_measures_nothing_and_a_new_expression_begins_anew(engine: Engine) -> None:
    clock = VirtualClock(datetime(2026, 1, 1, 2, 0, tzinfo=UTC))
    in_production(engine, clock, **NIGHTLY)
    clock.advance(7200)
    deliver(engine, handlers, fact(drift.pipeline_applied(2), sequence=2), clock=clock)
    work(engine, clock)
    assert again(engine) == []
    deliver(engine, handlers, fact(drift.pipeline_applied(3, **NIGHTLY), sequence=3), clock=clock)
    work(engine, clock)
    assert again(engine) == []
    deliver(engine, handlers, fact(drift.pipeline_applied(2), sequence=4), clock=clock)
    with reading(engine) as session:
        assert session.get_one(Schedule, "intents").state == ACTIVE


@pytest.mark.parametrize(("since", "now", "expected"), [
    ("02:59:59", "02:59:59.9", None),
    ("02:59:59", "03:00:00", "03:00:00"),
    ("02:00:00", "03:00:00.000001", "03:00:00"),
    ("03:00:00", "03:59:00", None),
])
def test_missed_ticks(since: str, now: str, expected: str | None) -> None:
    def at(text: str) -> datetime:
        return datetime.fromisoformat(f"2026-01-05T{text}+00:00")

    assert decide.missed_tick("0 3 * * *", at(since), at(now)) == (at(expected) if expected else None)
    assert decide.next_tick("0 3 * * *", at("03:00:00")) == datetime(2026, 1, 6, 3, tzinfo=UTC)
