"""A job that is asked to stop while it validates: it stops there, and the attempt that goes on is none the wiser."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.trainer.files import Result
from services.trainer.job.validating import Validating
from services.trainer.job.validations import losses_of
from services.trainer.job.work import run_job
from shared.events import DatasetRef
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from shared.settings import S3Settings
from tests.support.training import job_environment, write_job
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

# Twelve steps, and dropout, which draws random numbers; two batches a validation.
STEPS: dict[str, Any] = {"batch_size": 8, "learning_rate": 1e-2, "checkpoint_every_steps": 100, "max_length": 128,
                         "validate_every_steps": 5, "lora": {"dropout": 0.1}}


class Attempts:
    """Attempts of runs of one recipe."""

    def __init__(self, bench: "Bench", recipe: dict[str, Any]) -> None:
        self.store, self._dataset, self.cache = bench.store, bench.dataset, bench.cache
        self.settings, self.tmp = bench.settings, bench.tmp
        self._recipe = TrainingRecipe.model_validate(STEPS | recipe)

    def job(self, run: str, attempt: int = 1) -> Any:
        return write_job(self.store, self._dataset, self._recipe, run=run, attempt=attempt)

    def result(
        self, run: str, attempt: int = 1, *, stopped: bool = False, stop: threading.Event | None = None
    ) -> Result | None:
        """Of an attempt in this process; None where it stopped."""
        job, stop = self.job(run, attempt), stop or threading.Event()
        if stopped:
            stop.set()
        if not run_job(job, self.store, self.cache, stop):
            return None
        return Result.model_validate_json(self.store.get_bytes(f"{job.prefix}result.json"))

    def kept(self, run: str) -> dict[str, Any]:
        """The trainer's state in the newest checkpoint of the first attempt."""
        newest = max(self.store.list_prefixes(f"runs/{run}/1/checkpoints/"))
        state: dict[str, Any] = json.loads(self.store.get_bytes(f"{newest}trainer_state.json"))
        return state


    def stopped_while_validating(self, run: str, step: int) -> str:
        """The first attempt as a process that gets SIGTERM in a validation; its log."""
        job, ready, go, log = self.job(run), self.tmp / "ready", self.tmp / "go", self.tmp / "log"
        os.mkfifo(go)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.held_validation",
                 f"s3://{self.settings.s3_bucket}/{job.prefix}job.json", str(step), str(ready), str(go)],
                env={**job_environment(self.settings, self.cache), "HF_HUB_OFFLINE": "1"}, stdout=stream,
                stderr=stream,
            )
        eventually(lambda: ready.exists() or process.poll() is not None, what="the validation")
        assert process.poll() is None, log.read_text()[-3000:]
        process.send_signal(signal.SIGTERM)
        go.write_text("on")
        assert process.wait(timeout=200) == 143, log.read_text()[-3000:]
        return log.read_text()


@dataclass(frozen=True)
class Bench:
    """What attempts run on."""

    settings: S3Settings
    store: ArtifactStore
    dataset: DatasetRef
    cache: Path
    tmp: Path


@pytest.fixture
def bench(
    s3_settings: S3Settings, store: ArtifactStore, dataset: DatasetRef, cache: Path, tmp_path: Path
) -> Bench:
    return Bench(s3_settings, store, dataset, cache, tmp_path)


@pytest.mark.parametrize(("step", "recipe", "ends"), [
    (5, {}, 12), (12, {}, 12),
    (10, {"early_stopping": {"patience": 1, "min_delta": 99.0}}, 10), (5, {"early_stopping": {"patience": 2}}, 12),
], ids=["first", "last", "that-ends-the-run", "that-is-the-best"])
def test_a_validation_that_is_stopped_is_made_by_the_next_attempt(
    bench: Bench, request: pytest.FixtureRequest, step: int, recipe: dict[str, Any], ends: int
) -> None:
    attempts, name = Attempts(bench, recipe), request.node.callspec.id
    whole = attempts.result(f"whole-{name}")
    assert "the validation was left" in attempts.stopped_while_validating(f"stopped-{name}", step)
    kept = attempts.kept(f"stopped-{name}")
    assert kept["global_step"] == step
    assert len(losses_of(kept["log_history"])) == (step - 1) // 5, "its own is not there"

    resumed = attempts.result(f"stopped-{name}", 2)
    assert whole is not None
    assert resumed is not None
    assert resumed.steps == whole.steps == ends
    assert resumed.adapter == whole.adapter
    assert resumed.metrics["validation_loss"] == whole.metrics["validation_loss"]


@pytest.mark.parametrize("recipe", [
    {"gradient_accumulation": 2},
    *({"objective": name, "lora": {}, "reward": {"max_characters": 9}, "rl": {"max_new_tokens": 3, "steps": 2}}
      for name in ("rloo", "ppo")),
], ids=["sft", "rloo", "ppo"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_one_asked_before_or_at_a_validation_owes_it_whatever_it_learns(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, Any]
) -> None:
    attempts = Attempts(bench, {"validate_every_steps": 1} | recipe)
    name = str(recipe.get("objective", "sft"))
    whole = attempts.result(f"{name}-whole")
    assert whole is not None
    assert attempts.result(f"{name}-before", stopped=True) is None
    assert losses_of(attempts.kept(f"{name}-before")["log_history"]) == []
    before = attempts.result(f"{name}-before", 2)
    assert before is not None
    assert before.adapter == whole.adapter

    stop, check = threading.Event(), Validating.check_stop

    def asked_now(self: Validating) -> None:
        stop.set()
        check(self)

    monkeypatch.setattr(Validating, "check_stop", asked_now)
    assert attempts.result(f"{name}-in", stop=stop) is None
    assert attempts.kept(f"{name}-in")["global_step"] == 1
    stop.clear()
    assert attempts.result(f"{name}-in", 2, stop=stop) is None, "one that is owed may be stopped, too"
    monkeypatch.undo()
    within = attempts.result(f"{name}-in", 3)
    assert within is not None
    assert within.adapter == whole.adapter
    assert within.metrics["validation_loss"] == whole.metrics["validation_loss"]
