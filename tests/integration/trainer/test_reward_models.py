"""A reward model is trained on pairs, resumed to the same bits, loaded with its head, evaluated, and never served."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from services.cli.demo.data import make_rows
from services.evaluator.contract import PREDICTIONS, RESULT, JobFile, Target
from services.evaluator.contract import Result as Evaluated
from services.evaluator.job.work import run_job as evaluate
from services.serving.adapter_files import InvalidAdapterError, read_adapter
from services.trainer.files import Result
from services.trainer.job.base import fetch_base
from services.trainer.job.work import run_job
from shared.clock import SystemClock
from shared.errors import InvalidInputError
from shared.events import ArtifactRef, DatasetRef
from shared.recipe import TrainingRecipe
from shared.reward_models import KIND, load_reward_model
from shared.s3 import ArtifactStore
from tests.support.training import put_dataset, write_job

pytestmark = pytest.mark.integration

STEPS: dict[str, Any] = {"objective": "reward", "batch_size": 4, "learning_rate": 1e-2, "checkpoint_every_steps": 1,
                         "validate_every_steps": 100, "max_length": 64, "lora": {"rank": 4}}
METHODS = ["lora", "qlora", "full"]


@pytest.fixture(scope="module")
def pairs(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    rows = [{**row, "rejected": "I do not know"} for row in make_rows("good", 20, seed=6)]
    folder = tmp_path_factory.mktemp("pairs") / "prepared"
    return put_dataset(store, folder, train=rows[:8], validation=rows[8:12], test=rows[12:])


def train(store: ArtifactStore, dataset: DatasetRef, cache: Path, run: str, attempt: int = 1, **recipe: Any) -> Result:
    parsed = TrainingRecipe.model_validate({**STEPS, **recipe})
    job = write_job(store, dataset, parsed, run=run, attempt=attempt)
    assert run_job(job, store, cache, threading.Event())
    return Result.model_validate_json(store.get_bytes(f"{job.prefix}result.json"))


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_resumes_to_the_same_bytes_and_scores_as_it_did(
    store: ArtifactStore, pairs: DatasetRef, cache: Path, tmp_path: Path, method: str
) -> None:
    changes: dict[str, Any] = {"method": method, **({"learning_rate": 1e-3} if method == "full" else {})}
    recipe = TrainingRecipe.model_validate({**STEPS, **changes})
    stop = threading.Event()
    stop.set()
    assert not run_job(write_job(store, pairs, recipe, run=f"reward-{method}-cut"), store, cache, stop)
    resumed = train(store, pairs, cache, f"reward-{method}-cut", attempt=2, **changes)
    whole = train(store, pairs, cache, f"reward-{method}", **changes)
    assert resumed.adapter == whole.adapter

    manifest = store.get_dir(whole.adapter, tmp_path / "model")
    assert manifest.kind == KIND
    assert manifest.meta["servers"] == []
    _, base = fetch_base(store, "tiny", cache)
    model = load_reward_model(tmp_path / "model", base, AutoTokenizer.from_pretrained(base))
    rows = make_rows("good", 20, seed=6)[8:12]
    better = [row["messages"] for row in rows]
    worse = [[*messages[:-1], {"role": "assistant", "content": "I do not know"}] for messages in better]
    found = [model.score(side, batch_size=3, max_length=64) for side in (better, worse)]
    assert model.score(better, batch_size=1) == pytest.approx(found[0], abs=1e-4), "padding changes no score"
    if method != "qlora":  # whose base had been rounded to 4 bits while it was trained
        share = sum(b > w for b, w in zip(*found, strict=True)) / len(rows)
        assert whole.metrics["validation_pairwise_accuracy"] == share
    with pytest.raises(InvalidAdapterError, match=r"a reward model|a whole model"):
        read_adapter(tmp_path / "model", max_rank=8, server="small")


def test_it_learns_what_people_prefer_and_the_evaluator_measures_it_on_pairs_that_it_never_saw(
    store: ArtifactStore, pairs: DatasetRef, cache: Path
) -> None:
    result = train(store, pairs, cache, "reward-learns", epochs=4)
    assert result.metrics["validation_pairwise_accuracy"] == 1.0
    evaluated, lines = measure(store, pairs, result, cache)
    by_subject = {item.subject: item for item in evaluated.measurements}
    assert by_subject["candidate"].metrics == {"pairwise_accuracy": 1.0}
    assert by_subject["candidate"].rows == len(lines) == 8
    assert all(line["scores"]["candidate"][0] > line["scores"]["candidate"][1] for line in lines)
    likelier = sum(line["scores"]["base"][0] > line["scores"]["base"][1] for line in lines)
    assert by_subject["base"].metrics == {"pairwise_accuracy": likelier / 8}


def test_without_pairs_the_evaluation_says_what_to_do(
    store: ArtifactStore, pairs: DatasetRef, dataset: DatasetRef, cache: Path
) -> None:
    result = train(store, pairs, cache, "reward-lora", method="lora")
    with pytest.raises(InvalidInputError, match=r"no worse answers to compare with: .* publish it again"):
        measure(store, dataset, result, cache)
    job = write_job(store, dataset, TrainingRecipe(objective="reward"), run="reward-unprepared")
    with pytest.raises(InvalidInputError, match=r"the dataset has no rejected: .* publish it again"):
        run_job(job, store, cache, threading.Event())


def measure(
    store: ArtifactStore, dataset: DatasetRef, result: Result, cache: Path
) -> tuple[Evaluated, list[dict[str, Any]]]:
    """The evaluation's measurements, and its line for each pair."""
    base = ArtifactRef(uri=f"s3://{store.bucket}/base-models/tiny/", digest=result.base_model_digest)
    output = f"s3://{store.bucket}/evaluations/{result.adapter.digest[7:19]}/1/"
    evaluate(JobFile(
        evaluation_id="eval-reward", attempt=1, base_model="tiny", base=base, candidate=result.adapter,
        dataset=dataset, production=None, targets=[Target("candidate", "heldout"), Target("base", "heldout")],
        max_new_tokens=4, max_rows=100, batch_size=4, output=output,
    ), store, cache, SystemClock())
    lines = [json.loads(line) for line in store.get_bytes(output + PREDICTIONS).splitlines()]
    return Evaluated.model_validate_json(store.get_bytes(output + RESULT)), lines
