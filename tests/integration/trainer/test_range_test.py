"""A range test chooses the learning rate and leaves no other trace in what comes out, also of a resumed run."""

import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from services.cli.demo.data import make_rows
from services.trainer.files import Result
from services.trainer.job.work import run_job
from shared.events import DatasetRef
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from tests.support.training import put_dataset, write_job

pytestmark = pytest.mark.integration

# Two steps, whose dropout draws random numbers.
STEPS: dict[str, Any] = {"batchSize": 16, "checkpointEverySteps": 1, "validateEverySteps": 100, "maxLength": 64,
                         "lora": {"dropout": 0.1}}
SWEPT = {**STEPS, "learningRate": "auto", "rangeTest": {"steps": 24}}


@pytest.fixture(scope="module")
def rows(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    made = make_rows("good", 34, seed=4)
    return put_dataset(store, tmp_path_factory.mktemp("swept") / "rows", train=made[:32], validation=made[32:])


def test_a_swept_run_is_that_of_its_learning_rate_and_is_resumed_with_it(
    store: ArtifactStore, rows: DatasetRef, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")

    def run(name: str, recipe: dict[str, Any], attempt: int = 1) -> Result:
        job = write_job(store, rows, TrainingRecipe.model_validate(recipe), run=name, attempt=attempt)
        assert run_job(job.model_copy(update={"trackers": ["mlflow"]}), store, cache, threading.Event())
        return Result.model_validate_json(store.get_bytes(f"{job.prefix}result.json"))

    whole = run("swept", SWEPT)
    sweep = whole.range_test
    assert sweep is not None
    assert sweep.found, sweep.why
    assert whole.chosen["learningRate"] == f"{sweep.rate:g}: {sweep.why}"
    store.remove_dir(f"s3://{store.bucket}/runs/swept/1/checkpoints/step-000002/")
    resumed = run("swept", SWEPT, attempt=2)
    said = run("said", {**STEPS, "learningRate": sweep.rate})
    assert whole.adapter.digest == resumed.adapter.digest == said.adapter.digest
    assert resumed.range_test == sweep, "and none was made again"
    assert (said.range_test, "learningRate" in said.chosen) == (None, False)

    client = MlflowClient()
    [tracked] = client.search_runs([client.get_experiment_by_name("intents").experiment_id],
                                   filter_string="tags.`tuneloop.run` = 'swept'")
    drawn = client.get_metric_history(tracked.info.run_id, "range_test/smoothed_loss")
    assert [point.value for point in drawn] == pytest.approx(sweep.smoothed)
    [file] = store._client.list_objects_v2(Bucket=store.bucket, Prefix="runs/swept/1/tensorboard/")["Contents"]
    assert b"range_test/smoothed_loss" in store.get_bytes(f"s3://{store.bucket}/{file['Key']}")


def test_a_range_test_that_is_stopped_leaves_nothing_behind(
    store: ArtifactStore, rows: DatasetRef, cache: Path
) -> None:
    job, stop = write_job(store, rows, TrainingRecipe.model_validate(SWEPT), run="swept-stopped"), threading.Event()
    stop.set()
    assert not run_job(job, store, cache, stop)
    assert not store.list_prefixes(f"{job.prefix}checkpoints/")
