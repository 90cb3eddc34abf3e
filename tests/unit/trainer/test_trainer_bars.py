"""One command for all bars of the trainer: each is run, and one that is missed is seen."""

import subprocess
from importlib.util import find_spec
from typing import Any

import pytest

from benchmarks import trainer
from benchmarks.trainer import bars, verdict


def test_each_bar_is_a_benchmark_of_its_own() -> None:
    for name in bars("rows.csv", rounds=3, seeds=[1]):
        assert find_spec(f"benchmarks.{name}.__main__") is not None


def test_what_is_missed_and_what_was_not_measured_are_told_apart() -> None:
    chosen = bars("rows.csv", rounds=3, seeds=[1])
    lines = verdict(chosen, {"estimate": 0, "intents": 1, "forgetting": 2, "training": -9}).splitlines()[2:]
    assert [line.split("| ")[-1] for line in lines] == [
        "held |", "**MISSED** |", "**NOT MEASURED** (exit code 2) |", "**NOT MEASURED** (exit code -9) |"]


@pytest.mark.parametrize(("missed", "code"), [(None, 0), ("estimate", 1), ("training", 1)])
def test_all_are_run_and_one_that_is_missed_decides(
    missed: str | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(command: list[str], **_: Any) -> Any:
        ran.append(command[2].removeprefix("benchmarks."))
        return subprocess.CompletedProcess(command, int(ran[-1] == missed))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["trainer", "rows.csv"])
    assert trainer.main() == code
    assert ran == ["estimate", "intents", "forgetting", "training"]
