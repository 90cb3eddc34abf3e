"""Trackers are told in order, and none can hold up a run or fail it."""

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from services.trainer.job.rates import Sweep
from services.trainer.job.trackers.fan_out import Trackers
from services.trainer.job.trackers.model import End, Subject

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

    def sweep(self, sweep: Sweep) -> None:
        self._take("sweep", sweep.rate)

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
