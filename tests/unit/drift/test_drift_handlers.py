"""What the drift service remembers of others' events."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.drift.handlers import handlers
from services.drift.models import Base, Evaluated, ModelVersion, Pipeline
from shared.db import reading
from shared.profiles import output_counts
from tests.support import drift, facts
from tests.support.db import sqlite_engine
from tests.support.delivery import deliver, fact, unhandled


@pytest.fixture
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        yield made


def test_an_older_version_of_a_pipeline_changes_nothing(engine: Engine) -> None:
    deliver(engine, handlers, fact(drift.pipeline_applied(2, onDrift={"action": "retrain"}), sequence=2))
    deliver(engine, handlers, fact(drift.pipeline_applied(1), sequence=1))
    with reading(engine) as session:
        row = session.get_one(Pipeline, "intents")
    assert (row.version, row.policy["action"]) == (2, "retrain")


def test_a_model_version_and_its_evaluation_are_remembered(engine: Engine) -> None:
    judged = facts.evaluated(1)
    candidate = judged.measurements[0].model_copy(update={"outputs": output_counts(["yes", "no"])})
    judged = judged.model_copy(update={"measurements": [candidate, *judged.measurements[1:]]})
    deliver(engine, handlers, fact(judged), fact(drift.model_registered(1)))
    with reading(engine) as session:
        model = session.get_one(ModelVersion, "intents@1")
        outputs = session.get_one(Evaluated, model.evaluation_id).outputs
    assert model.dataset["dataset_id"] == "data-1"
    assert sorted(outputs) == ["answer_length", "refusals"]
    assert unhandled(engine) == {}


def test_an_evaluation_without_answers_is_fine(engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.evaluated(1)))
    with reading(engine) as session:
        assert session.get(Evaluated, "eval-1") is None
    assert unhandled(engine) == {}
