"""Several tasks in one run, from a published file to what the evaluator measures of each."""

from pathlib import Path
from typing import Any

import pytest

from services.cli.demo.data import make_rows
from services.data_ingest.prepare import prepare
from services.evaluator.contract import JobFile, Result, Target
from services.evaluator.job.work import run_job as evaluate
from shared.clock import SystemClock
from shared.errors import InvalidInputError
from shared.events import ArtifactRef, DatasetRef
from shared.pipeline import DatasetRules
from shared.s3 import ArtifactStore
from tests.support.datasets import rows, write_jsonl
from tests.support.trained import Trained, logits

pytestmark = pytest.mark.integration

TASKS: dict[str, Any] = {"multi_task": {"temperature": 4.0}, "batch_size": 16, "max_length": 128, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def tasks(store: ArtifactStore, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """24 rows of one task and 10 of another, which make an epoch of two steps."""
    folder = tmp_path_factory.mktemp("tasks")
    items = [row | {"task": "intents"} for row in make_rows("good", 30, seed=5)]
    items += [row | {"task": "labels"} for row in rows(14)]
    done = prepare(write_jsonl(folder / "source", items), folder, DatasetRules(), by_task=True)
    assert done.reasons == []
    assert done.report is not None
    dataset = DatasetRef(dataset_id="tasks", artifact=store.put_dir("datasets", done.folder), rows=done.report.rows)
    return Trained(store, dataset, cache, folder)


def test_a_run_of_several_tasks_is_balanced_resumed_and_measured_by_task(tasks: Trained, tiny_model: Path) -> None:
    whole = tasks.result("lora", **TASKS)
    assert whole.metrics["train_rows"] > tasks.dataset.rows["train"], "rows of the small task are there more than once"
    assert tasks.resumed("lora", "tasks-stopped", **TASKS).adapter.digest == whole.adapter.digest
    losses = [whole.metrics[f"validation_loss/{task}"] for task in ("intents", "labels")]
    assert min(losses) < whole.metrics["validation_loss"] < max(losses)
    before, after = logits(tasks.fetched("lora", **TASKS), tiny_model)
    assert (before - after).abs().max() > 1e-3

    base = ArtifactRef(uri=f"s3://{tasks.store.bucket}/base-models/tiny/", digest=whole.base_model_digest)
    output = f"s3://{tasks.store.bucket}/evaluations/tasks/1/"
    evaluate(
        JobFile(
            evaluation_id="tasks", attempt=1, base_model="tiny", base=base, candidate=whole.adapter,
            dataset=tasks.dataset, production=None, max_new_tokens=4, max_rows=50, batch_size=8, output=output,
            targets=[Target("candidate", "heldout")],
        ),
        tasks.store, tasks.cache, SystemClock(),
    )
    (measured,) = Result.model_validate_json(tasks.store.get_bytes(output + "result.json")).measurements
    assert {"exact_match/intents", "exact_match/labels", "perplexity/labels"} <= measured.metrics.keys()


def test_rows_without_tasks_are_refused(store: ArtifactStore, dataset: DatasetRef, cache: Path, tmp_path: Path) -> None:
    jobs = Trained(store, dataset, cache, tmp_path)
    with pytest.raises(InvalidInputError, match=r"the dataset has no task: .*training.multiTask; publish it again"):
        jobs.run(jobs.job("lora", "no-tasks", **TASKS))
