"""Trackers are told in order, and none can hold up a run or fail it; progress is a metric while a run goes on."""

import threading
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from sqlalchemy import Engine

from services.trainer.job.trackers.fan_out import Trackers
from services.trainer.job.trackers.model import End, Subject
from services.trainer.models import Base, Run
from services.trainer.progress import RunProgress
from shared.db import transaction
from tests.support.db import sqlite_engine
from tests.support.delivery import START

SUBJECT = Subject("run-1", "intents", 1, {"lora.rank": "8"})


class Recorder:
    """Keeps what it is told; raises from the first `fails`."""

    def __init__(self, name: str, fails: str = "") -> None:
        self.name, self.fails = name, fails
        self.told: list[Any] = []

    def begin(self, subject: Subject, step: int) -> None:
        self._take("begin", subject.run_id, step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._take("log", dict(values), step)

    def end(self, how: End) -> None:
        self._take("end", how)

    def _take(self, *what: Any) -> None:
        if what[0] == self.fails:
            raise ConnectionError("nobody there")
        self.told.append(what)


def tell(trackers: Trackers) -> None:
    anything: Any = None
    trackers.on_train_begin(anything, SimpleNamespace(global_step=0), anything)
    for step in (1, 2):
        state: Any = SimpleNamespace(global_step=step)
        trackers.on_log(anything, state, anything, logs={"loss": 1.0 / step, "note": "text"})


def test_each_is_told_in_order_whatever_becomes_of_the_others() -> None:
    well, broken = Recorder("well"), Recorder("broken", fails="log")
    with structlog.testing.capture_logs() as logs, Trackers(SUBJECT, [broken, well], threading.Event()) as trackers:
        tell(trackers)
    assert well.told == [("begin", "run-1", 0), ("log", {"loss": 1.0}, 1), ("log", {"loss": 0.5}, 2),
                         ("end", "finished")]
    assert broken.told == [("begin", "run-1", 0)]
    [warning] = [entry for entry in logs if entry["log_level"] == "warning"]
    assert (warning["tracker"], warning["reason"]) == ("broken", "ConnectionError: nobody there")


def test_a_tracker_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.trainer.job.trackers.fan_out.END_SECONDS", 0.05)
    release = threading.Event()

    class Hanging(Recorder):
        def log(self, values: Mapping[str, float], step: int) -> None:
            release.wait(60)

    hanging = Hanging("hanging")
    with structlog.testing.capture_logs() as logs, Trackers(SUBJECT, [hanging], threading.Event()) as trackers:
        tell(trackers)
    assert "did not take everything" in logs[-1]["reason"]
    release.set()


def test_the_end_says_how_it_ended() -> None:
    failed, stopped, stop = Recorder("failed"), Recorder("stopped"), threading.Event()
    with pytest.raises(ValueError, match="diverged"), Trackers(SUBJECT, [failed], stop):
        raise ValueError("diverged")
    stop.set()
    with Trackers(SUBJECT, [stopped], stop):
        pass
    assert (failed.told, stopped.told) == ([("end", "failed")], [("end", "stopped")])


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
