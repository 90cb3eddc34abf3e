"""Two processes that train one adapter, as torchrun starts them for two GPUs; here on the CPU, by gloo."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from services.trainer.files import JobInput, Progress, Result
from shared.errors import NotFoundError
from shared.events import DatasetRef
from shared.jobs import JobFailure
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from shared.settings import S3Settings
from tests.support.training import start_job, write_job
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

# 96 rows, eight on each of two: 6 steps an epoch.
RECIPE: dict[str, Any] = {"batch_size": 8, "learning_rate": 7e-3, "epochs": 2, "checkpoint_every_steps": 5,
                          "validate_every_steps": 6, "max_length": 128}


class Team:
    """Runs jobs of two processes and reads what they wrote."""

    def __init__(self, settings: S3Settings, store: ArtifactStore, dataset: DatasetRef, cache: Path, tmp: Path) -> None:
        self.settings, self.store, self.dataset, self.cache = settings, store, dataset, cache
        self.log = tmp / "log"

    def job(self, run: str, attempt: int = 1, **changes: Any) -> JobInput:
        recipe = TrainingRecipe.model_validate({**RECIPE, **changes})
        return write_job(self.store, self.dataset, recipe, run=run, attempt=attempt)

    def start(self, job: JobInput) -> Any:
        return start_job(self.settings, job, self.cache, self.log, processes=2)

    def run(self, job: JobInput) -> int:
        return int(self.start(job).wait(timeout=250))

    def read(self, job: JobInput, name: str) -> bytes | None:
        try:
            return self.store.get_bytes(f"{job.prefix}{name}")
        except NotFoundError:
            return None

    def said(self) -> str:
        return self.log.read_text()[-4000:]


@pytest.fixture
def team(s3_settings: S3Settings, store: ArtifactStore, dataset: DatasetRef, cache: Path, tmp_path: Path) -> Team:
    return Team(s3_settings, store, dataset, cache, tmp_path)


def test_asked_to_stop_they_store_one_checkpoint_from_which_the_next_attempt_makes_one_adapter(team: Team) -> None:
    job = team.job("team-stop", epochs=40, checkpoint_every_steps=1000)
    process = team.start(job)
    eventually(lambda: _step(team, job) >= 2, timeout=200, what="two steps")
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=100)
    assert team.read(job, "result.json") is None
    assert team.read(job, "failure.json") is None, team.said()
    (checkpoint,) = team.store.list_prefixes(f"{job.prefix}checkpoints/")
    stopped_at = int(checkpoint.rstrip("/").rpartition("step-")[2])
    assert stopped_at >= 2
    # Few steps more, so that the test ends.
    again = team.job("team-stop", attempt=2, epochs=(stopped_at + 4) / 6)
    assert team.run(again) == 0, team.said()
    written = team.read(again, "result.json")
    assert written
    result = Result.model_validate_json(written)
    assert result.steps - stopped_at in {4, 5}, "an epoch has the steps that both take for its rows"
    assert team.store.manifest(result.adapter.uri) is not None
    assert f"checkpoint-{stopped_at}" in team.log.read_text()
    lines = [json.loads(line) for line in team.log.read_text().splitlines() if line.startswith("{")]
    told = [line["step"] for line in lines if line.get("event") == "progress"]
    assert told == sorted(told), "one of them speaks"


def test_what_is_wrong_is_said_once_and_ends_all_of_them(team: Team) -> None:
    job = team.job("team-wrong", lora={"target_modules": ["no_such_layer"]})
    assert team.run(job) != 0
    written = team.read(job, "failure.json")
    assert written, team.said()
    failure = JobFailure.model_validate_json(written)
    assert failure.permanent
    assert "no linear layer no_such_layer" in failure.message


def _step(team: Team, job: JobInput) -> int:
    written = team.read(job, "progress.json")
    return Progress.model_validate_json(written).step if written else 0
