"""Every method trains, is resumed to the same bits, saved, loaded by whoever serves it, and merged where it can be."""

import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from services.cli.demo.data import make_rows
from services.serving.adapter_files import InvalidAdapterError, read_adapter
from services.serving.engine.batch import Batch
from services.serving.engine.generation import Adapter, Generation
from services.serving.engine.model import Model
from services.serving.engine.sampling import Sampler, Sampling
from services.serving.engine.text import TextStream
from services.trainer.job.divergence import Verdict
from services.trainer.job.methods import KeepsTrainable
from services.trainer.job.work import run_job
from shared.errors import InvalidInputError, PermanentError
from shared.events import DatasetRef
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from tests.support.trained import IDS, METHODS, Trained, logits
from tests.support.training import put_dataset

# PEFT calls models with the name that their cache had before transformers 5.20; a job's own log leaves such advice out.
pytestmark = [
    pytest.mark.integration, pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning"),
]

ADAPTERS = [name for name in METHODS if name != "full"]


@pytest.fixture(scope="session")
def eight(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    """Two batches of four rows."""
    rows = make_rows("good", 12, seed=5)
    folder = tmp_path_factory.mktemp("eight") / "prepared"
    return put_dataset(store, folder, train=rows[:8], validation=rows[8:10], test=rows[10:])


@pytest.fixture(scope="session")
def trained(
    store: ArtifactStore, eight: DatasetRef, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    return Trained(store, eight, cache, tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_stopped_after_a_step_and_resumed_ends_with_the_same_bytes(trained: Trained, name: str) -> None:
    assert trained.resumed(name, f"stopped-{name}").adapter.digest == trained.result(name).adapter.digest


@pytest.mark.parametrize("name", METHODS)
def test_a_run_proves_that_it_changed_the_base_and_that_its_files_are_what_it_trained(
    trained: Trained, name: str
) -> None:
    metrics = trained.result(name).metrics
    assert metrics["logit_change"] > 1e-3
    assert metrics["logit_error"] <= 1e-4


@pytest.mark.parametrize("name", ["lora", "full"])
def test_a_run_that_changes_nothing_fails(trained: Trained, name: str) -> None:
    job = trained.job(name, f"nothing-{name}", learning_rate=1e-30)
    with pytest.raises(PermanentError, match=r"training changed nothing: .*training.learningRate is 1e-30"):
        trained.run(job)


@pytest.mark.parametrize("name", ["lora", "adapter", "full"])
def test_files_that_hold_something_else_than_was_trained_are_not_taken(
    trained: Trained, tiny_model: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a library had written other weights: those of another run are put in their place."""
    other = trained.fetched(name)

    def substitute(model: Any, recipe: TrainingRecipe, folder: Path, **of: Any) -> None:
        shutil.copytree(other, folder)

    monkeypatch.setattr("services.trainer.job.work.save_result", substitute)
    job = trained.job(name, f"substituted-{name}", seed=99)
    with pytest.raises(PermanentError, match="load into another model than was trained"):
        trained.run(job)


@pytest.mark.parametrize("name", ["lora", "full"])
def test_a_run_that_diverges_may_end_with_its_last_good_weights(
    trained: Trained, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def diverges_at_the_third(history: list[dict[str, Any]], *, uneven: bool) -> Verdict:
        return Verdict("diverged" if history[-1]["step"] == 3 and "loss" in history[-1] else "fine", "as the test says")

    monkeypatch.setattr("services.trainer.job.guard.judge", diverges_at_the_third)
    job = trained.job(name, f"diverged-{name}", on_divergence="keep", epochs=1.5)
    result = trained.run(job)
    # The weights of the second step are those that the third found bad.
    assert (result.metrics["diverged_at_step"], result.metrics["kept_step"]) == (3, 1)
    trained.store.get_dir(f"s3://{trained.store.bucket}/{job.prefix}checkpoints/step-000001/", tmp_path / "checkpoint")
    trained.store.get_dir(result.adapter, tmp_path / "result")
    kept = load_file(tmp_path / "checkpoint" / KeepsTrainable.FILE)
    [file] = (tmp_path / "result").glob("*.safetensors")
    stored = load_file(file)
    assert len(kept) == len(stored)
    for key, value in kept.items():
        torch.testing.assert_close(stored[key.replace(".default", "")], value, atol=0, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_what_was_trained_is_loaded_and_is_not_the_base(trained: Trained, tiny_model: Path, name: str) -> None:
    before, after = logits(trained.fetched(name), tiny_model)
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_evaluator_and_the_small_engine_compute_what_peft_does(
    trained: Trained, tiny_model: Path, name: str
) -> None:
    folder = trained.fetched(name)
    base, adapted = logits(folder, tiny_model)
    if name != "adapter":  # which PEFT does not have
        peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(folder)).eval()
        with torch.inference_mode():
            expected = peft(input_ids=torch.tensor([IDS]), attention_mask=torch.ones(1, len(IDS))).logits[0, -1]
        torch.testing.assert_close(adapted, expected, atol=1e-4, rtol=1e-4)

    model = Model(tiny_model, dtype="float32", max_model_len=512)
    model.load_adapter("mine", read_adapter(folder, max_rank=8, server="small"))
    batch = Batch(model)
    alone = [first_tokens(model, batch, [None]), first_tokens(model, batch, ["mine"])]
    together = first_tokens(model, batch, [None, "mine"])
    assert together == [alone[0][0], alone[1][0]]
    assert [alone[0][0][0], alone[1][0][0]] == [int(base.argmax()), int(adapted.argmax())]


@pytest.mark.parametrize("name", ["lora", "rslora", "dora", "qlora", "ia3"])
def test_a_merged_model_computes_what_base_and_adapter_do(trained: Trained, tiny_model: Path, name: str) -> None:
    _, adapted = logits(trained.fetched(name), tiny_model)
    _, merged = logits(trained.fetched(name, merge=True), tiny_model)
    torch.testing.assert_close(merged, adapted, atol=1e-3, rtol=1e-3)
    with pytest.raises(InvalidAdapterError, match=r"a whole model and no adapter .* as a base model"):
        read_adapter(trained.fetched(name, merge=True), max_rank=8)


@pytest.mark.parametrize(("name", "servers"), [
    ("lora", ["vllm", "small"]), ("qlora", ["vllm", "small"]), ("dora", ["small"]), ("prefix", ["small"]),
    ("adapter", ["small"]), ("full", []),
])
def test_the_manifest_says_who_serves_it(trained: Trained, name: str, servers: list[str]) -> None:
    manifest = trained.store.manifest(trained.result(name).adapter.uri)
    assert manifest is not None
    assert manifest.meta["servers"] == servers
    assert manifest.meta["method"] == name
    assert ("rank" in manifest.meta) == (name in ("lora", "qlora", "dora"))


def first_tokens(model: Model, batch: Batch, keys: list[str | None]) -> list[list[int]]:
    """Four greedy tokens for each row."""
    drawn: list[list[int]] = [[] for _ in keys]
    rows = []
    for index, key in enumerate(keys):
        adapter = None if key is None else Adapter(key, key, "", 0)
        rows.append(Generation(
            prompt=IDS, adapter=adapter, limit=4, eos=frozenset(), sampler=recording(drawn[index]),
            text=TextStream(model.decode, IDS, ()), emit=lambda _delta: None,
        ))
    batch.admit(rows)
    while batch.rows:
        batch.step()
    return drawn


def recording(into: list[int]) -> Any:
    """A greedy sampler that keeps what it draws."""
    greedy: Callable[[torch.Tensor], int] = Sampler(Sampling(temperature=0))

    def draw(row: torch.Tensor) -> int:
        into.append(greedy(row))
        return into[-1]

    return draw


JUDGED: dict[str, Callable[[int, dict[str, Any]], dict[str, Any]]] = {
    "dpo": lambda _index, row: {**row, "rejected": "I do not know"},
    "kto": lambda index, row: {**row, "desired": index % 2 == 0},
}


@pytest.mark.parametrize("name", ["lora", "ia3", "adapter", "full"])
@pytest.mark.parametrize("objective", JUDGED)
def test_preferences_train_every_method_that_keeps_the_tokens(
    trained: Trained, tiny_model: Path, tmp_path: Path, objective: str, name: str
) -> None:
    rows = [JUDGED[objective](index, row) for index, row in enumerate(make_rows("good", 12, seed=6))]
    dataset = put_dataset(trained.store, tmp_path / "rows", train=rows[:8], validation=rows[8:])
    run = f"{objective}-{name}"
    changes: dict[str, Any] = {"objective": objective, "learning_rate": 1e-2}
    jobs = Trained(trained.store, dataset, trained.cache, tmp_path)
    resumed = jobs.resumed(name, f"{run}-stopped", **changes)
    whole = jobs.run(jobs.job(name, run, **changes))
    assert resumed.adapter.digest == whole.adapter.digest
    # The first step's loss is that of a policy which is its own reference: ln 2 for dpo, one half for kto.
    first = jobs.run(jobs.job(name, f"{run}-first", **changes, batch_size=8))
    assert first.metrics["loss"] == pytest.approx(math.log(2) if objective == "dpo" else 0.5, abs=1e-4)
    jobs.store.get_dir(whole.adapter, tmp_path / "result")
    before, after = logits(tmp_path / "result", tiny_model)
    assert (before - after).abs().max() > 1e-4


def test_rows_that_were_prepared_for_another_objective_are_refused(trained: Trained) -> None:
    job = trained.job("lora", "unprepared", objective="dpo")
    with pytest.raises(InvalidInputError, match=r"the dataset has no rejected: .* publish it again"):
        run_job(job, trained.store, trained.cache, threading.Event())
