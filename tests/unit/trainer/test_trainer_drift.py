"""Drift asks for a run: on the newest dataset version, once, and only where the pipeline wants that."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from services.trainer.handlers import handlers
from services.trainer.models import Base, Run
from shared.db import reading
from shared.events import DriftDetected
from tests.support import drift, facts
from tests.support.db import sqlite_engine
from tests.support.delivery import START, deliver, fact, unhandled


@pytest.fixture
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        yield made


def detected(number: int = 1, action: str = "retrain") -> DriftDetected:
    return DriftDetected.model_validate({
        "drift_id": f"intents-1-w{number}", "pipeline": "intents", "route": "intents", "model_version": "intents@1",
        "action": action, "reference": facts.artifact("datasets", 1).digest, "evidence": [], "window_began": START,
        "window_ended": START, "average_run": 1000,
    })


def runs(engine: Engine) -> list[tuple[str, str, str | None]]:
    with reading(engine) as session:
        return [(row.dataset["dataset_id"], row.state, row.causation_id) for row in session.exec(select(Run))]


def test_the_newest_dataset_is_trained_on_once(engine: Engine) -> None:
    asked = fact(detected())
    deliver(engine, handlers, fact(drift.pipeline_applied(onDataset=False)),
            fact(facts.prepared(2), time=START + timedelta(hours=2)), fact(facts.prepared(1)))
    assert runs(engine) == []
    deliver(engine, handlers, asked)
    assert runs(engine) == [("data-2", "pending", asked.id)]
    deliver(engine, handlers, fact(detected(2), sequence=2))
    assert len(runs(engine)) == 1
    assert unhandled(engine) == {}


@pytest.mark.parametrize("action", ["reevaluate", "notify"])
def test_other_actions_train_nothing(engine: Engine, action: str) -> None:
    deliver(engine, handlers, fact(drift.pipeline_applied(onDataset=False)), fact(facts.prepared(1)),
            fact(detected(action=action)))
    assert runs(engine) == []


def test_without_a_dataset_there_is_nothing_to_train_on(engine: Engine) -> None:
    deliver(engine, handlers, fact(drift.pipeline_applied()), fact(detected()))
    assert runs(engine) == []
    assert unhandled(engine) == {}
