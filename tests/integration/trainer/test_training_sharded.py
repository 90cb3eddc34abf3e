"""Two processes that hold a shard of the model each (FSDP), here on the CPU, by gloo."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.cli.demo.data import make_rows
from services.trainer.files import Result
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from shared.settings import S3Settings
from tests.support.training import job_environment, put_dataset, write_job

pytestmark = pytest.mark.integration

# 16 rows, four on each of two: 2 steps an epoch. A constant rate, so that a run may stop after the first and go on.
RECIPE: dict[str, Any] = {
    "method": "full", "batch_size": 4, "learning_rate": 1e-3, "schedule": "constant", "epochs": 2, "max_length": 64,
    "checkpoint_every_steps": 2, "validate_every_steps": 2, "early_stopping": {"patience": 3}, "distributed": "fsdp",
    # As on a GPU, where it is the default.
    "gradient_checkpointing": True,
}


def test_what_is_stored_is_whole_and_a_resumed_run_ends_with_the_same_bytes(
    store: ArtifactStore, s3_settings: S3Settings, cache: Path, tmp_path: Path
) -> None:
    rows = make_rows("good", 20, seed=6)
    dataset = put_dataset(store, tmp_path / "data", train=rows[:16], validation=rows[16:18], test=rows[18:])
    jobs = [
        write_job(store, dataset, TrainingRecipe.model_validate({**RECIPE, **changes}), run=run, attempt=attempt)
        for run, attempt, changes in (("sharded", 1, {}), ("stopped", 1, {"epochs": 1}), ("stopped", 2, {}))
    ]
    # One start of a team for all three.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    uris = [f"s3://{s3_settings.s3_bucket}/{job.prefix}job.json" for job in jobs]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        done = subprocess.run([*torchrun, "-m", "tests.support.jobs_in_turn", *uris], check=False, timeout=250,
                              env=job_environment(s3_settings, cache), stdout=stream, stderr=stream)
    assert done.returncode == 0, log.read_text()[-6000:]
    whole, stopped, resumed = (
        Result.model_validate_json(store.get_bytes(f"{job.prefix}result.json")) for job in jobs
    )
    assert (whole.steps, stopped.steps, resumed.steps) == (4, 2, 4)
    assert resumed.adapter.digest == whole.adapter.digest != stopped.adapter.digest
    for result in (whole, stopped, resumed):
        assert result.metrics["logit_change"] > 1e-3
        assert result.metrics["logit_error"] == 0, "each weight of the files is the one that was trained"
    assert whole.metrics["loss"] < stopped.metrics["loss"]
