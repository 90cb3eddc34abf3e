"""What the evaluator remembers of others' events, on SQLite, fed through the inbox."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

import services.evaluator
from services.evaluator.handlers import handlers
from services.evaluator.models import Base, Evaluation, Production
from shared.clock import VirtualClock
from shared.db import reading
from shared.events import ModelRef, ModelStageChanged, PipelineApplied, payload_types
from shared.pipeline import parse_pipeline
from tests.support import facts
from tests.support.db import assert_migrations_match, sqlite_engine
from tests.support.delivery import START, deliver, fact, process_all, unhandled


@pytest.fixture
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        yield made


def applied(version: int = 1, *, max_rows: int = 200) -> PipelineApplied:
    spec = parse_pipeline(facts.PIPELINE).spec
    rules = spec.evaluation.model_copy(update={"max_rows": max_rows})
    return PipelineApplied(pipeline="intents", version=version, digest="sha256:" + "d" * 64,
                           spec=spec.model_copy(update={"evaluation": rules}))


def stage(number: int, stage: str, previous: str) -> ModelStageChanged:
    model = ModelRef(model_version=f"intents@{number}", base_model="tiny",
                     artifact=facts.artifact("adapters", number), dataset=facts.dataset_ref(number))
    return ModelStageChanged.model_validate(
        {"model": model, "pipeline": "intents", "stage": stage, "previous": previous}
    )


def production(engine: Engine) -> str | None:
    with reading(engine) as session:
        row = session.get(Production, "intents")
        return row.model["model_version"] if row and row.model else None


def test_the_migrations_match_the_tables() -> None:
    assert_migrations_match(Path(services.evaluator.__file__).parent / "migrations", Base.metadata)


def test_everything_that_is_addressed_to_the_evaluator_has_a_handler() -> None:
    assert handlers.types == sorted(name for name, cls in payload_types().items() if "evaluator" in cls.CONSUMERS)


def test_a_completed_run_gets_one_evaluation_however_often_it_is_said(engine: Engine) -> None:
    deliver(engine, handlers, fact(applied()), fact(facts.completed(), correlation_id="loop-7"))
    deliver(engine, handlers, fact(facts.completed(), sequence=2))
    with reading(engine) as session:
        (row,) = session.exec(select(Evaluation)).all()
    assert (row.id, row.state, row.attempt, row.correlation_id) == ("eval-run-1", "pending", 1, "loop-7")


def test_a_run_is_evaluated_by_the_rules_that_it_began_with(engine: Engine) -> None:
    deliver(engine, handlers, fact(applied(1, max_rows=10)), fact(applied(2, max_rows=99)), fact(facts.completed()))
    with reading(engine) as session:
        assert session.get_one(Evaluation, "eval-run-1").rules["maxRows"] == 10


def test_a_run_that_overtakes_its_pipeline_waits_for_it(engine: Engine) -> None:
    clock = VirtualClock(START)
    deliver(engine, handlers, fact(facts.completed()), clock=clock)
    assert "is not known yet" in unhandled(engine)["training.completed.v1"]
    deliver(engine, handlers, fact(applied()), clock=clock)
    clock.advance(3600)
    process_all(engine, handlers, clock)
    assert unhandled(engine) == {}


def test_production_is_remembered_and_forgotten(engine: Engine) -> None:
    deliver(engine, handlers, fact(stage(1, "production", "candidate")))
    assert production(engine) == "intents@1"
    deliver(engine, handlers, fact(stage(1, "rolled_back", "production"), sequence=2))
    assert production(engine) is None


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_successor_replaces_production_in_whatever_order_the_two_facts_come(engine: Engine, order: str) -> None:
    deliver(engine, handlers, fact(stage(1, "production", "candidate")))
    later = START + timedelta(seconds=5)
    changes = {
        "a": fact(stage(1, "archived", "production"), sequence=2, time=later),
        "b": fact(stage(2, "production", "candidate"), time=later),
    }
    deliver(engine, handlers, *(changes[name] for name in order))
    assert production(engine) == "intents@2"


def test_late_news_of_an_older_promotion_changes_nothing(engine: Engine) -> None:
    deliver(engine, handlers, fact(stage(2, "production", "candidate"), time=START + timedelta(seconds=5)))
    deliver(engine, handlers, fact(stage(1, "production", "candidate"), time=START))
    deliver(engine, handlers, fact(stage(1, "archived", "production"), sequence=2, time=START + timedelta(seconds=5)))
    assert production(engine) == "intents@2"


def test_candidates_and_rollbacks_of_others_do_not_touch_production(engine: Engine) -> None:
    deliver(engine, handlers, fact(stage(1, "production", "candidate")), fact(stage(2, "rolled_back", "candidate")))
    assert production(engine) == "intents@1"
