"""Progress is a metric while a run goes on."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.trainer.models import Base, Run
from services.trainer.progress import RunProgress
from shared.db import transaction
from tests.support.db import sqlite_engine
from tests.support.delivery import START


@pytest.fixture
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        yield made


def test_progress_is_a_metric_of_the_runs_at_work_alone(engine: Engine) -> None:
    progress = {"step": 10, "total_steps": 40, "loss": 0.5, "tokens_per_second": 900.0, "eta_seconds": 60.0}
    with transaction(engine) as session:
        for name, state in (("run-1", "running"), ("run-2", "completed"), ("run-3", "pending")):
            session.add(Run(id=name, state=state, pipeline="intents", pipeline_version=1, base_model="tiny", recipe={},
                            dataset={}, progress=progress, correlation_id="c", created_at=START))
    samples = {sample.name: (sample.labels, sample.value) for family in RunProgress(engine).collect()
               for sample in family.samples}
    assert samples["tuneloop_trainer_run_progress_ratio"] == ({"pipeline": "intents", "run": "run-1"}, 0.25)
    assert samples["tuneloop_trainer_run_loss"][1] == 0.5
    assert samples["tuneloop_trainer_run_eta_seconds"][1] == 60
    assert "tuneloop_trainer_run_validation_loss" not in samples
    Base.metadata.drop_all(engine)
    assert [family.samples for family in RunProgress(engine).collect()] == [[]] * 5, "a database that is down"
