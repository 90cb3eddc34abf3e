"""Continued pre-training, from a published file to what the evaluator measures."""

import threading
from pathlib import Path
from typing import Any

import pytest

from services.data_ingest.prepare import prepare
from services.evaluator.contract import JobFile, Result, Target
from services.evaluator.job.work import run_job as evaluate
from services.trainer.job.work import run_job
from shared.clock import SystemClock
from shared.errors import InvalidInputError
from shared.events import ArtifactRef, DatasetRef
from shared.pipeline import DatasetRules
from shared.s3 import ArtifactStore
from tests.support.datasets import write_jsonl
from tests.support.trained import Trained, logits

pytestmark = pytest.mark.integration

# A few hundred tokens, of which some windows of 64 make two steps.
TEXTS = [{"text": f"def area_{index}(width, height):\n\treturn {index} * width * height\n"} for index in range(40)]
TWO_STEPS: dict[str, Any] = {"objective": "pretrain", "batch_size": 8, "learning_rate": 1e-2, "max_length": 64}


@pytest.fixture(scope="module")
def texts(store: ArtifactStore, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("texts")
    done = prepare(write_jsonl(folder / "source", TEXTS), folder, DatasetRules(), objective="pretrain")
    assert done.report is not None
    assert done.reasons == []
    dataset = DatasetRef(dataset_id="texts", artifact=store.put_dir("datasets", done.folder), rows=done.report.rows)
    return Trained(store, dataset, cache, folder)


@pytest.mark.parametrize("name", ["lora", "qlora", "adapter", "full"])
def test_a_stopped_run_ends_with_the_same_bytes_and_has_learned(texts: Trained, tiny_model: Path, name: str) -> None:
    whole = texts.result(name, **TWO_STEPS)
    assert whole.steps == 2
    assert texts.resumed(name, f"texts-{name}", **TWO_STEPS).adapter.digest == whole.adapter.digest
    before, after = logits(texts.fetched(name, **TWO_STEPS), tiny_model)
    assert (before - after).abs().max() > 1e-3


def test_a_merged_model_computes_what_base_and_adapter_do(texts: Trained, tiny_model: Path) -> None:
    _, adapted = logits(texts.fetched("lora", **TWO_STEPS), tiny_model)
    _, merged = logits(texts.fetched("lora", **TWO_STEPS, merge=True), tiny_model)
    assert (adapted - merged).abs().max() < 1e-3


def test_the_evaluator_measures_fewer_bits_per_byte_of_texts_that_were_held_out(texts: Trained) -> None:
    trained = texts.result("lora", **TWO_STEPS)
    base = ArtifactRef(uri=f"s3://{texts.store.bucket}/base-models/tiny/", digest=trained.base_model_digest)
    output = f"s3://{texts.store.bucket}/evaluations/texts/1/"
    job = JobFile(
        evaluation_id="texts", attempt=1, base_model="tiny", base=base, candidate=trained.adapter,
        dataset=texts.dataset, production=None, max_new_tokens=4, max_rows=5, batch_size=4, output=output,
        targets=[Target("candidate", "heldout"), Target("base", "heldout")],
    )
    evaluate(job, texts.store, texts.cache, SystemClock())
    candidate, bare = Result.model_validate_json(texts.store.get_bytes(output + "result.json")).measurements
    assert candidate.metrics.keys() == {"perplexity", "bits_per_byte"}
    assert candidate.metrics["bits_per_byte"] < bare.metrics["bits_per_byte"]
    assert candidate.outputs == []
    assert b"def area" not in texts.store.get_bytes(output + "predictions.jsonl")


def test_rows_of_answers_are_no_texts(store: ArtifactStore, dataset: DatasetRef, cache: Path, tmp_path: Path) -> None:
    job = Trained(store, dataset, cache, tmp_path).job("lora", "no-texts", objective="pretrain")
    with pytest.raises(InvalidInputError, match=r"the dataset has no text: .* publish it again"):
        run_job(job, store, cache, threading.Event())
