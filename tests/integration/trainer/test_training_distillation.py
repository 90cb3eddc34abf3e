"""A student learns from a teacher's logits: a base, or an adapter of it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax
from transformers import AutoTokenizer

from services.cli.demo.data import make_rows
from shared.errors import InvalidInputError, NotFoundError
from shared.events import DatasetRef
from shared.prompts import prompt_ids
from shared.s3 import ArtifactStore
from tests.support.trained import STEPS, Trained, logits
from tests.support.training import put_dataset

pytestmark = pytest.mark.integration

FIRST = {**STEPS, "learning_rate": 1e-2, "batch_size": 8}


@pytest.fixture(scope="module")
def jobs(store: ArtifactStore, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("distillation")
    rows = make_rows("good", 12, seed=5)
    dataset = put_dataset(store, folder / "rows", train=rows[:8], validation=rows[8:10], test=rows[10:])
    return Trained(store, dataset, cache, folder)


def distil(**distillation: Any) -> dict[str, Any]:
    return {"objective": "distill", "learning_rate": 1e-2, "distillation": {"teacher": "tiny", **distillation}}


@pytest.mark.parametrize("name", ["lora", "qlora", "full"])
def test_a_student_comes_nearer_to_its_teacher_and_a_stopped_run_ends_with_the_same_bytes(
    jobs: Trained, tiny_model: Path, name: str
) -> None:
    teacher = jobs.result("dora", learning_rate=5e-2).adapter
    rate = 1e-3 if name == "full" else 1e-2
    recipe = distil(adapter=teacher.uri, alpha=1.0, temperature=2.0) | {"learning_rate": rate}
    whole = jobs.result(name, **recipe)
    assert jobs.resumed(name, f"distill-{name}", **recipe).adapter.digest == whole.adapter.digest
    # Where the answer to a row begins that neither has seen.
    asked = prompt_ids(AutoTokenizer.from_pretrained(tiny_model), make_rows("good", 12, seed=5)[10]["messages"][:-1])
    base, student = logits(jobs.fetched(name, **recipe), tiny_model, asked)
    _, taught = logits(jobs.fetched("dora", learning_rate=5e-2), tiny_model, asked)
    assert divergence(taught, student) < divergence(taught, base)
    manifest = jobs.store.manifest(whole.adapter.uri)
    assert manifest is not None
    assert manifest.meta["teacher"] == "tiny"
    assert manifest.meta["teacher_adapter_digest"] == teacher.digest
    assert manifest.meta["teacher_digest"] == whole.base_model_digest


def divergence(teacher: torch.Tensor, student: torch.Tensor) -> float:
    return float(kl_div(log_softmax(student, -1), log_softmax(teacher, -1), log_target=True, reduction="sum"))


def test_of_a_teacher_that_is_the_student_only_the_answers_are_left_to_learn(jobs: Trained) -> None:
    """The first step's divergence is 0, so its loss is the part of the cross entropy, over the same tokens."""
    plain = jobs.run(jobs.job("lora", "first-plain", **FIRST))
    taught = jobs.run(jobs.job("lora", "first-taught", **{**FIRST, **distil(alpha=0.75)}))
    assert plain.steps == taught.steps == 1
    assert taught.metrics["loss"] == pytest.approx(0.25 * plain.metrics["loss"], rel=1e-4)
    assert math.isfinite(taught.metrics["validation_loss"])


def test_teachers_that_are_not_there_or_not_of_the_base_are_refused(
    jobs: Trained, dataset: DatasetRef, tmp_path: Path
) -> None:
    def refused(name: str, **distillation: Any) -> Any:
        return jobs.run(jobs.job("lora", f"refused-{name}", **distil(**distillation)))

    with pytest.raises(NotFoundError, match=r"gpt-9 is not in S3: .* correct spec.training.distillation.teacher"):
        refused("base", teacher="gpt-9")
    with pytest.raises(NotFoundError, match=r"distillation.adapter: there is no s3://.*/nowhere/manifest.json"):
        refused("adapter", adapter=f"s3://{jobs.store.bucket}/nowhere/")
    (tmp_path / "adapter_config.json").write_text("{}")
    prefix = jobs.store.put_dir("adapters", tmp_path, meta={"base_model": "tiny", "method": "prefix"})
    with pytest.raises(InvalidInputError, match=r"was trained with prefix; .* one of dora, ia3, lora, qlora"):
        refused("prefix", adapter=prefix.uri)
    with pytest.raises(InvalidInputError, match=r"is an adapter of None, and the teacher is tiny"):
        refused("dataset", adapter=dataset.artifact.uri)
