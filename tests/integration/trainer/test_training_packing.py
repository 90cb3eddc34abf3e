"""Packed batches give the losses, gradients and adapters of padded ones; models that mix rows are found out."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from services.cli.demo.data import make_rows
from services.trainer.files import Progress, Result
from services.trainer.job.packing import ROWS_TOKENS, PackedRows, binned, crosstalk, end_to_end, tolerated
from services.trainer.job.work import run_job
from shared.errors import InvalidInputError
from shared.events import DatasetRef
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from tests.support.training import put_dataset, write_job

pytestmark = pytest.mark.integration

LENGTHS = (9, 30, 4, 17, 12, 2)


def rows() -> list[dict[str, Any]]:
    """Of which the second half is trained."""
    made = []
    for number, length in enumerate(LENGTHS):
        ids = [(31 * number + 7 * place) % 1500 for place in range(length)]
        made.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
    return made


def loss_of(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The sum over trained tokens, from the plain logits."""
    labels = batch.pop("labels")
    logits = model(**{key: value for key, value in batch.items() if key != ROWS_TOKENS}, use_cache=False).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")


def gradients(model: Any, losses: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    found = torch.autograd.grad(sum(losses, torch.zeros(())), list(model.parameters()))
    return list(found)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_batch_has_the_loss_and_gradients_of_its_rows_alone(tiny_model: Path, attention: str) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation=attention
    ).eval()
    alone = [
        loss_of(model, {name: torch.tensor([value]) for name, value in row.items()}) for row in rows()
    ]
    expected = gradients(model, alone)
    for plan in (end_to_end, binned(model.config.hidden_size), lambda _: [[1], [0, 2, 3], [5, 4]]):
        batch = PackedRows(plan, pad=0)(rows())
        assert int(batch[ROWS_TOKENS]) == sum(LENGTHS)
        loss = loss_of(model, batch)
        torch.testing.assert_close(loss, sum(alone), rtol=1e-5, atol=0)
        for found, one in zip(gradients(model, [loss]), expected, strict=True):
            torch.testing.assert_close(found, one, rtol=1e-3, atol=1e-4)


class Forgetful(torch.nn.Module):
    """A model that takes no notice of positions, and so lets rows of a sequence see each other."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner, self.config, self.device = model, model.config, model.device

    def forward(self, **inputs: Any) -> Any:
        inputs.pop("position_ids", None)
        return self.inner(**inputs)


def test_a_model_that_mixes_the_rows_of_a_sequence_is_found_out(tiny_model: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for packing in ("bfd", "padding_free"):
        assert crosstalk(model, packing, flash=False) < tolerated(torch.float32)
        assert crosstalk(Forgetful(model), packing, flash=False) > 10 * tolerated(torch.bfloat16)


@pytest.fixture(scope="module")
def uneven(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    """Rows of very different lengths: every fourth tells a long story first."""
    made = make_rows("good", 24, seed=9)
    for row in made[::4]:
        row["messages"][-2]["content"] = " ".join([row["messages"][-2]["content"]] * 5)
    return put_dataset(
        store, tmp_path_factory.mktemp("uneven") / "prepared", train=made[:16], validation=made[16:21], test=made[21:]
    )


def trained(
    store: ArtifactStore, dataset: DatasetRef, cache: Path, **changes: Any
) -> tuple[Result, Progress, dict[str, torch.Tensor]]:
    """What a run of four steps of two batches each leaves."""
    recipe = TrainingRecipe.model_validate({
        "batch_size": 4, "gradient_accumulation": 2, "epochs": 2, "learning_rate": 1e-2, "max_length": 256,
        "validate_every_steps": 2, "checkpoint_every_steps": 100, **changes,
    })
    job = write_job(store, dataset, recipe, run="packing-" + "-".join(map(str, changes.values())))
    assert run_job(job, store, cache, threading.Event())
    result = Result.model_validate_json(store.get_bytes(f"{job.prefix}result.json"))
    folder = cache.parent / f"fetched-{job.run_id}"
    store.get_dir(result.adapter, folder)
    from safetensors.torch import load_file

    progress = Progress.model_validate_json(store.get_bytes(f"{job.prefix}progress.json"))
    return result, progress, load_file(folder / "adapter_model.safetensors")


def test_a_run_ends_with_the_same_adapter_however_its_batches_are_laid_out(
    store: ArtifactStore, uneven: DatasetRef, cache: Path
) -> None:
    plain, told, weights = trained(store, uneven, cache, packing="off")
    for packing in ("auto", "padding_free"):
        result, progress, found = trained(store, uneven, cache, packing=packing)
        assert result.steps == plain.steps == 4
        assert progress.tokens_per_second
        assert told.tokens_per_second
        for name in ("loss", "validation_loss"):
            assert result.metrics[name] == pytest.approx(plain.metrics[name], rel=1e-4)
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-3)


def test_a_recipe_that_insists_on_packing_is_refused_where_rows_would_mix(
    store: ArtifactStore, uneven: DatasetRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.trainer.job.supervised.crosstalk", lambda *_args, **_options: 0.3)
    with pytest.raises(InvalidInputError, match=r"training.packing: bfd: .* 0.3 of the largest. Write auto"):
        trained(store, uneven, cache, packing="bfd")
    result, _, _ = trained(store, uneven, cache, seed=3)
    assert result.steps == 4
