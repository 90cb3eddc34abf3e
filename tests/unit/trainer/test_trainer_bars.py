"""One command for all bars of the trainer: each is run, and one that is missed is seen."""

import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import trainer
from benchmarks.trainer import bars, verdict


def test_each_bar_is_a_benchmark_of_its_own() -> None:
    for name in bars(Path("rows.csv"), rounds=3, tickets=16, seeds=[1]):
        assert find_spec(f"benchmarks.{name}.__main__") is not None


def test_only_what_was_measured_and_held_is_said_to_hold() -> None:
    chosen = bars(Path("rows.csv"), rounds=3, tickets=16, seeds=[1])
    lines = verdict(chosen, {"estimate": 0, "intents": 1, "forgetting": 2, "training": -9}).splitlines()[2:]
    assert ["**not held**: exit code" in line for line in lines] == [False, True, True, True]
    assert lines[0].endswith("| held |")


@pytest.mark.parametrize(("missed", "code"), [(None, 0), ("estimate", 1), ("training", 1)])
def test_all_are_run_and_one_that_is_missed_decides(
    missed: str | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = []

    def run(command: list[str], **_: Any) -> Any:
        ran.append(command[2].removeprefix("benchmarks."))
        return subprocess.CompletedProcess(command, int(ran[-1] == missed))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["trainer", str(tmp_path / "rows.csv")])
    with pytest.raises(SystemExit):
        trainer.main()
    assert ran == [], "what could not end well is not begun"
    (tmp_path / "rows.csv").touch()
    assert trainer.main() == code
    assert ran == ["estimate", "intents", "forgetting", "training"]
