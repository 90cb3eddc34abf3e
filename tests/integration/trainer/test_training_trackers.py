"""A run's curves: in TensorBoard's files in S3, in a real MLflow store, and in Weights & Biases.

The package of the last is played, and only where our code asks for it: TRL looks for the real one, too.
"""

import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from tensorboardX.proto.event_pb2 import Event

from services.trainer.files import JobInput
from services.trainer.job.work import run_job
from shared.events import DatasetRef
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from tests.support.training import write_job

pytestmark = pytest.mark.integration


class PlayedWandb:
    """The calls that are made of the package, with what they were made with."""

    Settings = SimpleNamespace

    def __init__(self) -> None:
        self.began: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.exit_codes: list[int] = []

    def init(self, **options: Any) -> "PlayedWandb":
        self.began = options
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


def test_a_run_is_tracked_over_its_attempts(
    store: ArtifactStore, dataset: DatasetRef, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = PlayedWandb()
    monkeypatch.setattr("services.trainer.job.trackers.wandb.import_module", {"wandb": played}.__getitem__)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    recipe = TrainingRecipe.model_validate({"batch_size": 32, "max_length": 64, "checkpoint_every_steps": 1,
                                            "validate_every_steps": 2, "priority": 3})

    def job(attempt: int) -> JobInput:
        made = write_job(store, dataset, recipe, run="tracked", attempt=attempt)
        return made.model_copy(update={"trackers": ["mlflow", "wandb"]})

    stop = threading.Event()
    stop.set()
    assert not run_job(job(1), store, cache, stop)
    assert run_job(job(2), store, cache, threading.Event())

    scalars = {(tag, step): value for attempt in (1, 2) for tag, step, value in scalars_of(store, attempt)}
    assert {step for tag, step in scalars if tag == "train/loss"} == {1, 2, 3}
    assert scalars["validation/loss", 2] > 0

    client = MlflowClient()
    experiment = client.get_experiment_by_name("intents")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["tuneloop.attempt"]) == ("tracked", "FINISHED", "2")
    assert (run.data.params["priority"], run.data.params["baseModel"]) == ("3", "tiny")
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in losses] == [1, 2, 3]
    assert losses[-1].value == pytest.approx(scalars["train/loss", 3], rel=1e-5)

    assert (played.began["project"], played.began["id"], played.began["resume"]) == ("intents", "tracked", "allow")
    assert [step for step, values in played.logged if "loss" in values] == [1, 2, 3]
    assert played.exit_codes == [1, 0], "stopped, then finished"


def scalars_of(store: ArtifactStore, attempt: int) -> Iterator[tuple[str, int, float]]:
    """Tag, step and value of what TensorBoard would draw of an attempt."""
    [uri] = [f"s3://{store.bucket}/{key}" for key in keys(store, f"runs/tracked/{attempt}/tensorboard/")]
    data, at = store.get_bytes(uri), 0
    while at < len(data):
        # TFRecord: the length, its checksum, the record, its checksum.
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                yield value.tag, event.step, value.simple_value


def keys(store: ArtifactStore, prefix: str) -> list[str]:
    answer = store._client.list_objects_v2(Bucket=store.bucket, Prefix=prefix)
    return [item["Key"] for item in answer["Contents"]]
