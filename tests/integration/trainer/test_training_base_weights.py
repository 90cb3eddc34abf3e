"""Over a base in bfloat16 each method that leaves the base as it is trains two steps, in float32 of its own: resumed to
the same bytes, stored, loaded, asked and merged into the base as it is stored.
"""

import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.evaluator.job.scoring import Limits, score
from services.evaluator.job.subjects import Subjects
from services.trainer.files import JobInput, Result
from services.trainer.job.methods import KeepsTrainable
from services.trainer.job.model import load_model
from services.trainer.job.work import run_job
from shared.errors import PermanentError
from shared.events import DatasetRef
from shared.prompts import encode, end_token_id
from shared.recipe import RL, Objective
from shared.recipe_checks import MERGEABLE
from shared.reward_models import load_reward_model
from shared.s3 import ArtifactStore
from tests.support.trained import METHODS, Trained, logits
from tests.support.training import put_dataset

# PEFT calls models with the name that their cache had before transformers 5.20; a job's own log leaves such advice out.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::FutureWarning"),
              pytest.mark.filterwarnings("ignore::UserWarning")]

NARROW: dict[str, Any] = {"base_weights": "bfloat16"}
FROZEN = [name for name in METHODS if name not in ("full", "qlora")]
MESSAGES = [{"role": "user", "content": "say k"}, {"role": "assistant", "content": "k"}]
DRAWN: dict[str, Any] = {
    "batch_size": 8, "reward": {"max_characters": 9}, "rl": {"group_size": 8, "max_new_tokens": 3, "steps": 2},
    "lora": {"rank": 4, "alpha": 8},
}
OWN: dict[Objective, dict[str, Any]] = {
    "sft": {"packing": "bfd"}, "pretrain": {"batch_size": 8}, "distill": {"distillation": {"teacher": "tiny"}},
    "dpo": {}, "kto": {}, "reward": {},
    "grpo": DRAWN, "rloo": DRAWN, "ppo": {**DRAWN, "rl": {"passes": 2, "max_new_tokens": 3, "steps": 1}},
}


@pytest.fixture(scope="module")
def rows(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    """Eight, with all that any objective reads."""
    made: list[dict[str, Any]] = [{
        "messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}],
        "rejected": "no", "desired": index % 2 == 0, "text": f"{word} is {index} " * 20,
    } for index, word in enumerate("abcdefghij")]
    return put_dataset(store, tmp_path_factory.mktemp("rows") / "prepared", train=made[:8], validation=made[8:])


class Named(Trained):
    """With runs that no other module's are named as: what those left is no checkpoint of theirs."""

    def job(self, name: str, run: str, attempt: int = 1, **changes: Any) -> JobInput:
        return super().job(name, f"base-{run}", attempt, **changes)


@pytest.fixture(scope="module")
def narrow(store: ArtifactStore, rows: DatasetRef, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Named(store, rows, cache, tmp_path_factory.mktemp("narrow"))


@pytest.mark.parametrize("name", FROZEN)
def test_each_method_resumes_to_the_same_bytes_and_is_stored_in_float32(
    narrow: Trained, tiny_model: Path, name: str
) -> None:
    whole, run = narrow.result(name, **NARROW), f"stopped-{name}"
    assert narrow.resumed(name, run, **NARROW).adapter.digest == whole.adapter.digest
    assert kept_base(narrow, f"runs/base-{run}/1/checkpoints/step-000001/") == "bfloat16"
    assert whole.metrics["logit_change"] > 1e-3
    assert whole.metrics["logit_error"] <= 1e-4
    folder = narrow.fetched(name, **NARROW)
    assert {value.dtype for value in load_file(folder / "adapter_model.safetensors").values()} == {torch.float32}
    before, after = logits(folder, tiny_model)
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in FROZEN if METHODS[name].get("method", name) in MERGEABLE])
def test_an_update_is_merged_into_the_base_as_it_is_stored(narrow: Trained, tiny_model: Path, name: str) -> None:
    merged = narrow.fetched(name, **NARROW, merge=True)
    assert {value.dtype for value in load_file(merged / "model.safetensors").values()} == {torch.float32}
    _, adapted = logits(narrow.fetched(name, **NARROW), tiny_model)
    torch.testing.assert_close(logits(merged, tiny_model)[1], adapted, atol=1e-3, rtol=1e-3)
    # What no adapter sits on is the stored base's own, bit for bit.
    stored = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).state_dict()
    norms = [key for key in stored if key.endswith("norm.weight")]
    assert all(torch.equal(load_file(merged / "model.safetensors")[key], stored[key]) for key in norms)


@pytest.mark.parametrize(("objective", "name"), [
    *((objective, "lora") for objective in OWN if objective != "sft"),
    *((objective, "adapter") for objective in OWN if objective not in ("sft", "reward")),
    ("dpo", "dora"), ("kto", "ia3"), ("reward", "dora"), ("sft", "lora"),
])
def test_each_objective_learns_over_it(narrow: Trained, tiny_model: Path, objective: Objective, name: str) -> None:
    changes = {**OWN[objective], **NARROW, "objective": objective, "learning_rate": 1e-2}
    result = narrow.run(narrow.job(name, f"{objective}-{name}", **changes))
    assert result.steps == 2
    assert result.metrics["logit_change"] > 0
    if objective in ("dpo", "kto"):
        first = narrow.run(narrow.job(name, f"{objective}-{name}-first", **changes, batch_size=8))
        # A policy that is its own reference: rounded as it is, and by the same kernels.
        assert first.metrics["loss"] == pytest.approx(math.log(2) if objective == "dpo" else 0.5, abs=1e-6)
    if objective in RL:
        assert abs(result.metrics["validation_kl"]) < 1
    asked(narrow, tiny_model, result, objective)


def test_a_run_goes_on_over_the_base_as_it_began(narrow: Trained) -> None:
    """As if the first attempt had been where `auto` is bfloat16: on a CPU it is float32."""
    whole = narrow.result("lora", **NARROW)
    wide = narrow.result("lora")
    for begun, digest, why in (
        ("bfloat16", whole.adapter.digest, "as the run began"), ("float32", wide.adapter.digest, "there is no GPU"),
    ):
        run = f"elsewhere-{begun}"
        assert not stopped(narrow, run, base_weights=begun)
        resumed = narrow.run(narrow.job("lora", run, attempt=2))
        assert resumed.adapter.digest == digest
        assert resumed.chosen["baseWeights"] == f"{begun}: {why}"
    assert wide.chosen["baseWeights"] == "float32: there is no GPU"
    assert "baseWeights" not in whole.chosen


def test_an_adapter_that_changes_nothing_is_found_over_it_too(narrow: Trained) -> None:
    with pytest.raises(PermanentError, match="training changed nothing"):
        narrow.run(narrow.job("lora", "nothing", **NARROW, learning_rate=1e-30))


def test_a_model_goes_on_from_an_adapter_over_it(narrow: Trained) -> None:
    start = narrow.result("dora", **NARROW)
    job = narrow.job("dora", "gone-on", **NARROW, objective="dpo", batch_size=8)
    result = narrow.run(job.model_copy(update={"start": start.adapter}))
    assert result.metrics["loss"] == pytest.approx(math.log(2), abs=1e-6)


def stopped(jobs: Trained, run: str, **changes: Any) -> bool:
    """The first attempt of a run, asked to end after a step; whether it came to the run's end."""
    stop = threading.Event()
    stop.set()
    return run_job(jobs.job("lora", run, **changes), jobs.store, jobs.cache, stop)


def kept_base(jobs: Trained, prefix: str) -> str:
    """What a checkpoint says of the base."""
    folder = jobs.folder / prefix.replace("/", "-")
    jobs.store.get_dir(f"s3://{jobs.store.bucket}/{prefix}", folder)
    with safe_open(folder / KeepsTrainable.FILE, framework="pt") as content:
        return str(content.metadata()["base_weights"])


def asked(jobs: Trained, base: Path, result: Result, objective: Objective) -> None:
    """What was stored answers, or scores an answer, as the evaluator asks it."""
    folder, tokenizer = jobs.folder / result.adapter.digest[7:], AutoTokenizer.from_pretrained(base)
    jobs.store.get_dir(result.adapter, folder)
    if objective == "reward":
        assert {value.dtype for value in load_file(folder / "adapter_model.safetensors").values()} == {torch.float32}
        (found,) = load_reward_model(folder, base, tokenizer).score([MESSAGES], batch_size=1)
        assert math.isfinite(found)
        return
    example = encode(tokenizer, MESSAGES)
    subjects = Subjects(base, [example])
    subjects.attach("candidate", folder, name="it")
    with subjects.active("candidate") as model, torch.inference_mode():
        (scored,) = score(model, [example], Limits(max_new_tokens=2, batch_size=1, end=end_token_id(tokenizer)))
    assert 1 <= len(scored.generated) <= 2


def test_a_head_that_is_trained_beside_an_adapter_is_in_float32(narrow: Trained, tiny_model: Path) -> None:
    recipe = narrow.job("lora", "head", **NARROW, objective="reward").recipe
    model = load_model(tiny_model, recipe)
    kinds = {name.split(".")[0]: value.dtype for name, value in model.named_parameters()}
    assert kinds == {"model": torch.bfloat16, "score": torch.float32}
