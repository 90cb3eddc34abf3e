"""What the trainer chooses by itself is told in the result, and a resumed run keeps to it on any machine."""

import threading
from pathlib import Path

import pytest

from services.cli.demo.data import make_rows
from services.trainer.files import Progress, Result
from services.trainer.job.settle import Machine
from services.trainer.job.work import run_job
from shared.events import ArtifactRef, DatasetRef
from shared.recipe import TrainingRecipe
from shared.recipe_auto import AUTO_FIELDS
from shared.recipe_parts import EarlyStopping
from shared.s3 import ArtifactStore
from tests.support.training import put_dataset, write_job

pytestmark = pytest.mark.integration

RECIPE = TrainingRecipe(auto=list(AUTO_FIELDS), early_stopping=EarlyStopping())


@pytest.fixture(scope="module")
def dataset(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    rows = make_rows("good", 36, seed=4)
    folder = tmp_path_factory.mktemp("auto") / "prepared"
    return put_dataset(store, folder, train=rows[:32], validation=rows[32:34], test=rows[34:])


def test_what_auto_chose_is_told_and_kept_when_the_run_is_resumed(
    store: ArtifactStore, dataset: DatasetRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, attempt: int, *, stop: bool = False, start: ArtifactRef | None = None) -> Result | None:
        job = write_job(store, dataset, RECIPE, run=name, attempt=attempt).model_copy(update={"start": start})
        event = threading.Event()
        if stop:
            event.set()
        if not run_job(job, store, cache, event):
            return None
        return Result.model_validate_json(store.get_bytes(f"{job.prefix}result.json"))

    whole = run("auto-whole", 1)
    assert whole is not None
    assert whole.steps == 6, "three epochs of two steps"
    assert set(whole.chosen) == {
        *AUTO_FIELDS, "attention", "baseWeights", "gradientCheckpointing", "liger", "optimizer", "packing", "precision"
    }
    assert whole.chosen["attention"] == "sdpa: there is no GPU"
    assert whole.chosen["batchSize"].startswith("16: ")
    assert whole.chosen["lora.rank"].startswith("8: the rows have about ")
    assert whole.chosen["maxLength"].endswith("; 0 of 32 rows are longer, and lose what is beyond")
    assert whole.chosen["validateEverySteps"].startswith("10: a twentieth of 6 steps")
    told = Progress.model_validate_json(store.get_bytes("runs/auto-whole/1/progress.json")).chosen
    assert told.items() <= whole.chosen.items()
    assert set(told) == {*AUTO_FIELDS, "baseWeights"}
    assert whole.chosen["packing"].startswith("bfd: ")
    assert whole.chosen["precision"] == "float32: on a CPU"

    assert run("auto-stopped", 1, stop=True) is None
    assert run("auto-lost", 1, stop=True) is None
    store.remove_dir(f"s3://{store.bucket}/runs/auto-lost/1/checkpoints/step-000001/")
    monkeypatch.setattr(
        "services.trainer.job.settled.machine_here", lambda processes, _: Machine(False, 50_000_000, processes)
    )
    resumed = run("auto-stopped", 2)
    assert resumed is not None
    assert resumed.chosen == whole.chosen
    assert resumed.adapter == whole.adapter
    begun_again = run("auto-lost", 2)
    assert begun_again is not None
    assert (begun_again.chosen, begun_again.adapter) == (whole.chosen, whole.adapter), "it needs no checkpoint for that"

    monkeypatch.undo()
    gone_on = run("auto-gone-on", 1, start=whole.adapter)
    assert gone_on is not None
    assert gone_on.chosen["lora.rank"] == "8: that of the adapter to go on from"
    assert gone_on.chosen["lora.alpha"] == "16: that of the adapter to go on from"
