"""The training job as a process, on a real S3: what it leaves there, however it ends."""

import json
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from services.cli.demo.data import make_rows
from services.serving.adapter_files import read_adapter
from services.trainer.files import JobInput, Progress, Result
from shared.errors import IntegrityError, InvalidInputError, NotFoundError, PermanentError
from shared.events import DatasetRef
from shared.jobs import JobFailure
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from shared.settings import S3Settings
from tests.support.training import put_base_model, put_dataset, start_job, write_job
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

# 6 steps per epoch.
SHORT: dict[str, Any] = {"batch_size": 16, "learning_rate": 7e-3, "epochs": 2, "checkpoint_every_steps": 5,
                         "validate_every_steps": 6, "max_length": 128}


class Bench:
    """Runs jobs and reads what they wrote."""

    def __init__(self, settings: S3Settings, store: ArtifactStore, dataset: DatasetRef, cache: Path, tmp: Path) -> None:
        self.settings, self.store, self.dataset, self.cache = settings, store, dataset, cache
        self.log = tmp / "log"

    def job(self, run: str, attempt: int = 1, **changes: Any) -> JobInput:
        base_model = changes.pop("base_model", "tiny")
        dataset = changes.pop("dataset", self.dataset)
        recipe = TrainingRecipe.model_validate({**SHORT, **changes})
        return write_job(self.store, dataset, recipe, run=run, attempt=attempt, base_model=base_model)

    def start(self, job: JobInput) -> Any:
        return start_job(self.settings, job, self.cache, self.log)

    def run(self, job: JobInput) -> int:
        """Run to the end; the exit code."""
        return int(self.start(job).wait(timeout=200))

    def run_here(self, job: JobInput) -> None:
        """Run to the end in this process, which is faster."""
        from services.trainer.job.work import run_job

        assert run_job(job, self.store, self.cache, threading.Event())

    def refuse(self, job: JobInput, error: type[Exception], message: str) -> None:
        """Run in this process and see it fail."""
        with pytest.raises(error, match=message):
            self.run_here(job)
        assert self.read(job, "result.json") is None

    def read(self, job: JobInput, name: str) -> bytes | None:
        try:
            return self.store.get_bytes(f"{job.prefix}{name}")
        except NotFoundError:
            return None

    def result(self, job: JobInput) -> Result:
        written = self.read(job, "result.json")
        assert written, self.log.read_text()[-3000:]
        return Result.model_validate_json(written)

    def failure(self, job: JobInput) -> JobFailure:
        written = self.read(job, "failure.json")
        assert written, self.log.read_text()[-3000:]
        assert self.read(job, "result.json") is None
        return JobFailure.model_validate_json(written)

    def checkpoints(self, job: JobInput) -> list[str]:
        """Names of the whole checkpoints."""
        found = self.store.list_prefixes(f"{job.prefix}checkpoints/")
        return [uri.rstrip("/").rpartition("/")[2] for uri in found if self.store.exists(uri)]


@pytest.fixture
def bench(
    s3_settings: S3Settings, store: ArtifactStore, dataset: DatasetRef, cache: Path, tmp_path: Path
) -> Bench:
    return Bench(s3_settings, store, dataset, cache, tmp_path)


def test_a_job_leaves_an_adapter_that_says_what_it_is(bench: Bench, tiny_model: Path, tmp_path: Path) -> None:
    job = bench.job("whole")
    assert bench.run(job) == 0, bench.log.read_text()

    result = bench.result(job)
    progress = Progress.model_validate_json(bench.read(job, "progress.json") or b"")
    assert (result.steps, progress.step, progress.total_steps) == (12, 12, 12)
    assert result.metrics["validation_loss"] == progress.validation_loss
    assert result.metrics["train_rows"] == 96
    assert bench.checkpoints(job) == ["step-000010", "step-000012"]

    manifest = bench.store.get_dir(result.adapter, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert {file.path for file in manifest.files} == {"adapter_model.safetensors", "adapter_config.json"}
    assert config["base_model_name_or_path"] == "tiny"
    assert str(bench.cache) not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert manifest.meta["base_model"] == "tiny"
    assert manifest.meta["base_model_digest"] == result.base_model_digest
    assert manifest.meta["dataset_digest"] == bench.dataset.artifact.digest
    assert manifest.meta["run_id"] == "whole"
    assert manifest.meta["rank"] == 8
    assert manifest.meta["chat_template_sha256"].startswith("sha256:")
    assert _changes_the_answers(tiny_model, tmp_path / "adapter")

    said = bench.log.read_text()
    assert "progress" in said
    assert "Warning" not in said, "libraries advise the authors of training code, not those who read a job's log"
    assert "huggingface" not in said.lower(), "models come from S3 alone"


@pytest.mark.parametrize("changes", [
    {"method": "qlora", "optimizer": "adamw_8bit"},
    {"lora": {"rank": 32, "alpha": 16, "rs_lora": True}},
], ids=["qlora", "rslora"])
def test_other_methods_leave_an_adapter_for_the_base_model_as_it_is(
    bench: Bench, tiny_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """It learns, it can be served, and merged into the base model it gives the same logits."""
    job = bench.job("method-" + changes.get("method", "rslora"), epochs=1, **changes)
    bench.run_here(job)
    result = bench.result(job)
    assert result.metrics["validation_loss"] < 6, "that of the base model is 7.65"
    manifest = bench.store.get_dir(result.adapter, tmp_path / "adapter")
    assert manifest.meta["method"] == job.recipe.method
    assert read_adapter(tmp_path / "adapter", max_rank=64).rank == job.recipe.lora.rank
    assert _changes_the_answers(tiny_model, tmp_path / "adapter")
    apart, merged = _logits(tiny_model, tmp_path / "adapter")
    assert float((apart - merged).abs().max()) < 1e-4


def _logits(base: Path, adapter: Path) -> tuple[Any, Any]:
    """Of the adapter beside its base, and merged into it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    ids = torch.arange(1, 41).reshape(2, 20)
    with torch.no_grad():
        return model(ids).logits, model.merge_and_unload()(ids).logits


def test_a_killed_job_resumes_and_ends_where_an_undisturbed_one_does(bench: Bench) -> None:
    recipe: dict[str, Any] = {"epochs": 6, "lora": {"rank": 8, "alpha": 16, "dropout": 0.1}}
    undisturbed = bench.job("undisturbed", **recipe)
    bench.run_here(undisturbed)

    first = bench.job("killed", **recipe)
    process = bench.start(first)
    eventually(lambda: bench.checkpoints(first), what="the first checkpoint")
    process.kill()
    process.wait()
    assert bench.read(first, "result.json") is None, "it was killed too late to prove anything"
    assert bench.read(first, "failure.json") is None

    second = bench.job("killed", attempt=2, **recipe)
    assert bench.run(second) == 0, bench.log.read_text()
    assert "resuming" in bench.log.read_text()
    assert bench.result(second).steps == 36
    assert bench.result(second).metrics["validation_loss"] == bench.result(undisturbed).metrics["validation_loss"]
    # Content-addressed: the same digest is the same bytes, so weights, optimizer, schedule and dropout all agreed.
    assert bench.result(second).adapter == bench.result(undisturbed).adapter
    assert bench.checkpoints(first) == [], "newer ones replaced them"
    assert bench.checkpoints(second) == ["step-000035", "step-000036"]


def test_a_job_that_is_asked_to_end_saves_a_checkpoint_first(bench: Bench) -> None:
    job = bench.job("asked", epochs=60, checkpoint_every_steps=1000)
    process = bench.start(job)
    eventually(lambda: b'"loss":' in (bench.read(job, "progress.json") or b"") or None, what="progress")
    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=200) == 143
    assert len(bench.checkpoints(job)) == 1
    assert bench.read(job, "result.json") is None
    assert bench.read(job, "failure.json") is None


def test_an_unknown_base_model_is_a_failure_that_says_what_to_do(bench: Bench) -> None:
    job = bench.job("unknown", base_model="gpt-9")
    assert bench.run(job) == 1

    failure = bench.failure(job)
    assert failure.permanent
    assert "the base model gpt-9 is not in S3" in failure.message
    assert "spec.baseModel" in failure.message


def test_modules_that_the_model_lacks_are_named_beside_those_that_it_has(bench: Bench) -> None:
    job = bench.job("modules", lora={"target_modules": ["q_proj", "attention"]})
    bench.refuse(job, InvalidInputError, "no linear layer attention; it has .*, q_proj, .*all-linear")


def test_a_loss_that_is_not_a_number_ends_the_run(bench: Bench, tiny_model: Path, tmp_path: Path) -> None:
    _put_broken_model(bench.store, tiny_model, tmp_path / "broken")
    job = bench.job("nan", base_model="broken")
    bench.refuse(job, PermanentError, "diverged at step 1: the loss became nan. Lower training.learningRate")
    assert bench.checkpoints(job) == []


def test_rows_that_leave_no_room_for_an_answer_are_refused(bench: Bench) -> None:
    job = bench.job("long", max_length=8)
    bench.refuse(job, InvalidInputError, "no train row has its answer within 8 tokens; raise training.maxLength")


def test_a_damaged_dataset_is_not_trained_on(bench: Bench, tmp_path: Path) -> None:
    rows = make_rows("good", 30, seed=8)
    dataset = put_dataset(bench.store, tmp_path / "damaged", train=rows[:20], validation=rows[20:])
    bench.store.put_bytes(f"{dataset.artifact.uri}train.parquet", b"PAR1 not what the manifest says")
    bench.refuse(bench.job("damaged", dataset=dataset), IntegrityError, "train.parquet")


def test_training_stops_when_validation_no_longer_improves(bench: Bench) -> None:
    from services.trainer.job.work import run_job

    # Nothing is better by 99 nats than the first validation, so the rule fires at the second one.
    job = bench.job("early", epochs=20, validate_every_steps=3, early_stopping={"patience": 1, "min_delta": 99.0})
    assert run_job(job, bench.store, bench.cache, threading.Event())
    assert bench.result(job).steps == 6


def _changes_the_answers(base: Path, adapter: Path) -> bool:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.arange(10, 30).unsqueeze(0)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        after = PeftModel.from_pretrained(model, adapter)(input_ids=ids).logits
    return bool((before - after).abs().max() > 0.1)


def _put_broken_model(store: ArtifactStore, base: Path, folder: Path) -> None:
    """The tiny model with a weight that is no number, which makes every loss one."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    put_base_model(store, folder, "broken")
