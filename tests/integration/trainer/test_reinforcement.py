"""Reinforcement learning trains, is resumed to the same bytes, merged, and makes rewarded answers more frequent."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from services.evaluator.job.subjects import Subjects
from services.trainer.files import Result
from services.trainer.job.data import load_splits
from services.trainer.job.methods import prepare
from services.trainer.job.model import load_model
from services.trainer.job.objectives import make_trainer
from services.trainer.job.ppo_math import policy_loss
from services.trainer.job.rewards import Rewards
from services.trainer.job.work import run_job
from shared.errors import InvalidInputError, NotFoundError, PermanentError
from shared.events import DatasetRef
from shared.prompts import Example
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from tests.support.training import put_dataset, write_job

# PEFT calls models with the name that their cache had before transformers 5.20; a job's own log leaves such advice out.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::FutureWarning"),
              pytest.mark.filterwarnings("ignore::UserWarning")]

IDS = list(range(20, 50))
STEPS: dict[str, Any] = {
    "batch_size": 8, "learning_rate": 1e-2, "checkpoint_every_steps": 1, "max_length": 64, "validate_every_steps": 1,
    "lora": {"rank": 4}, "rl": {"max_new_tokens": 3, "steps": 2}, "reward": {"max_characters": 9},
}
OBJECTIVES = ["grpo", "rloo", "ppo"]


@pytest.fixture(scope="module")
def prompts(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    rows = [{"messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]}
            for word in ("a", "b", "c", "d", "e", "f")]
    folder = tmp_path_factory.mktemp("prompts") / "prepared"
    return put_dataset(store, folder, train=rows[:4], validation=rows[4:])


class Runs:
    """Runs jobs on the prompts."""

    def __init__(self, store: ArtifactStore, dataset: DatasetRef, cache: Path) -> None:
        self.store, self.dataset, self.cache = store, dataset, cache

    def stop(self, run: str, **recipe: Any) -> None:
        """The first attempt of a run, which is stopped after a step."""
        stop = threading.Event()
        stop.set()
        assert not run_job(self._job(run, 1, recipe), self.store, self.cache, stop)

    def end(self, run: str, attempt: int = 1, **recipe: Any) -> Result:
        job = self._job(run, attempt, recipe)
        assert run_job(job, self.store, self.cache, threading.Event())
        return Result.model_validate_json(self.store.get_bytes(f"{job.prefix}result.json"))

    def _job(self, run: str, attempt: int, recipe: dict[str, Any]) -> Any:
        parsed = TrainingRecipe.model_validate(STEPS | recipe)
        return write_job(self.store, self.dataset, parsed, run=run, attempt=attempt)


@pytest.fixture(scope="module")
def runs(store: ArtifactStore, prompts: DatasetRef, cache: Path) -> Runs:
    return Runs(store, prompts, cache)


@pytest.fixture
def rewarded(
    prompts: DatasetRef, store: ArtifactStore, tiny_model: Path, tmp_path: Path
) -> Callable[[TrainingRecipe], Any]:
    """Makes the job's trainer of a recipe, on the prompts."""

    def make(recipe: TrainingRecipe) -> Any:
        store.get_dir(prompts.artifact, tmp_path / "rows")
        tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), load_model(tiny_model, recipe)
        return make_trainer(
            recipe, model, load_splits(tmp_path / "rows", tokenizer, recipe), tokenizer=tokenizer,
            output=tmp_path / "out", peft_config=prepare(model, recipe), callbacks=[], rewards=Rewards(recipe),
        )

    return make


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_resumes_to_the_same_bytes_and_merges_to_the_same_logits(
    runs: Runs, tiny_model: Path, tmp_path: Path, objective: str
) -> None:
    runs.stop(f"{objective}-cut", objective=objective)
    resumed = runs.end(f"{objective}-cut", attempt=2, objective=objective)
    whole = runs.end(objective, objective=objective)
    assert resumed.adapter == whole.adapter
    assert whole.steps == (8 if objective == "ppo" else 2), "ppo takes four steps on each round of answers"
    assert 0 <= whole.metrics["validation_reward"] <= 1
    assert resumed.metrics["validation_kl"] == whole.metrics["validation_kl"]

    merged = runs.end(f"{objective}-merged", objective=objective, merge=True)
    (base, adapted), (_, again) = (
        logits(runs.store, result, tmp_path / name, tiny_model) for name, result in (("a", whole), ("m", merged))
    )
    assert (adapted - base).abs().max() > 1e-4
    torch.testing.assert_close(again, adapted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("method", "base"), [
    ("lora", "float32"), ("adapter", "float32"), ("full", "auto"), ("lora", "bfloat16"), ("adapter", "bfloat16"),
])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_answers_are_drawn_and_learned_in_the_same_precision(
    rewarded: Callable[[TrainingRecipe], Any], monkeypatch: pytest.MonkeyPatch, objective: str, method: str, base: str
) -> None:
    """Under bfloat16: what a layer answers while it draws, and the ratio of the first batch that is learned from."""
    recipe = TrainingRecipe.model_validate(STEPS | {
        "objective": objective, "method": method, "precision": "bfloat16", "base_weights": base,
        "checkpoint_every_steps": 1000, "validate_every_steps": 1000, "gradient_accumulation": 2, "learning_rate": 1e-4,
        "rl": {"max_new_tokens": 3, "steps": 1},
    })
    trainer = rewarded(recipe)
    seen, drawing = set[tuple[bool, torch.dtype]](), [False]
    generate = trainer.model.generate

    def watched(*args: Any, **kwargs: Any) -> Any:
        drawing[0] = True
        try:
            return generate(*args, **kwargs)
        finally:
            drawing[0] = False

    monkeypatch.setattr(trainer.model, "generate", watched)
    layer = next(module for name, module in trainer.model.named_modules() if name.endswith("v_proj"))
    layer.register_forward_hook(lambda _module, _inputs, output: seen.add((drawing[0], output.dtype)))
    ratios = ratios_of(trainer, objective, monkeypatch)
    trainer.train()
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert float((ratios[0] - 1).abs().max()) == 0
    departures = [entry["kl_per_answer"] for entry in trainer.state.log_history if "kl_per_answer" in entry]
    assert departures[0] == pytest.approx(0, abs=1e-6), "the reference is asked in the same precision, too"


def ratios_of(trainer: Any, objective: str, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Filled with how much more likely the tokens of each batch are than when they were drawn."""
    found: list[torch.Tensor] = []
    if objective == "ppo":
        def kept(log_probs: Any, old: Any, *args: Any) -> Any:
            found.append((log_probs.detach() - old).exp())
            return policy_loss(log_probs, old, *args)

        monkeypatch.setattr("services.trainer.job.ppo.policy_loss", kept)
        return found
    ask, before = trainer._get_per_token_logps_and_entropies, list[torch.Tensor]()

    def asked(model: Any, *args: Any, **kwargs: Any) -> Any:
        answer = ask(model, *args, **kwargs)
        # The first without gradients are those of all answers of the step, which are then learned in another order. At
        # the first step the policy is its own reference, which is all that grpo asks beforehand.
        if torch.is_grad_enabled():
            found.append(torch.stack([
                min((row - old for old in before[0]), key=lambda apart: float(apart.abs().max())).exp()
                for row in answer[0].detach()
            ]))
        else:
            before.append(answer[0])
        return answer

    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", asked)
    return found


# PPO has no group to compare with, and its value head must learn first: its reward is less rare.
LEARNS: dict[str, dict[str, Any]] = {
    "grpo": {"max_characters": 5, "learning_rate": 0.02, "rl": {"group_size": 8, "steps": 12}},
    "rloo": {"max_characters": 5, "learning_rate": 0.02, "rl": {"group_size": 8, "steps": 12}},
    "ppo": {"max_characters": 9, "learning_rate": 0.01, "rl": {"passes": 2, "steps": 20}},
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rewarded_answers_become_more_frequent(rewarded: Callable[[TrainingRecipe], Any], objective: str) -> None:
    learns = LEARNS[objective]
    recipe = TrainingRecipe.model_validate(STEPS | {
        "objective": objective, "batch_size": 32, "learning_rate": learns["learning_rate"], "schedule": "constant",
        "validate_every_steps": 1000, "checkpoint_every_steps": 1000, "lora": {"rank": 8},
        "reward": {"max_characters": learns["max_characters"]},
        "rl": {"max_new_tokens": 3, "kl_coefficient": 0.0, **learns["rl"]},
    })
    trainer = rewarded(recipe)
    trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert sum(rewards[:3]) / 3 < 0.6
    assert sum(rewards[-3:]) / 3 > 0.8


def test_a_reward_model_is_found_by_its_run_or_its_digest(runs: Runs, store: ArtifactStore, tmp_path: Path) -> None:
    pairs = put_dataset(store, tmp_path / "pairs", **{
        split: [{"messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": "yes"}],
                 "rejected": "no"} for word in words]
        for split, words in (("train", "abcd"), ("validation", "efgh"))
    })
    judge = Runs(store, pairs, runs.cache).end("judge", objective="reward", rl={}, reward=None, learning_rate=1e-3)
    changes: dict[str, Any] = {"objective": "grpo", "rl": {**STEPS["rl"], "steps": 1}}
    by_run = runs.end("by-run", **changes, reward={"model": "judge", "max_characters": 9})
    by_digest = runs.end("by-digest", **changes, reward={"model": judge.adapter.digest, "max_characters": 9})
    assert by_run.adapter == by_digest.adapter
    manifest = store.manifest(by_run.adapter.uri)
    assert manifest is not None
    assert manifest.meta["reward_model_digest"] == judge.adapter.digest
    for name, error, said in (
        ("by-run", InvalidInputError, "trained no reward model; name a run"),
        ("nobody", NotFoundError, "no run nobody"),
        ("sha256:" + "0" * 64, NotFoundError, "no reward model sha256:0000"),
    ):
        with pytest.raises(error, match=f"training.reward.model: .*{said}"):
            runs.end("unjudged", **changes, reward={"model": name})


def test_a_model_that_leaves_its_base_is_stopped(runs: Runs) -> None:
    with pytest.raises(PermanentError, match=r"at step \d+ answers depart from the base by .* Raise training.rl"):
        runs.end("runaway", objective="rloo", learning_rate=0.1, rl={**STEPS["rl"], "steps": 4, "max_kl": 0.01})


def logits(store: ArtifactStore, result: Result, folder: Path, base: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """After the last of `IDS`, of the base and of a run's result, as the evaluator computes them."""
    store.get_dir(result.adapter, folder)
    subjects = Subjects(base, [Example(input_ids=[*IDS, 2], prompt_length=len(IDS))])
    subjects.attach("candidate", folder, name="it")
    found = []
    for subject in ("base", "candidate"):
        with subjects.active(subject) as model, torch.inference_mode():
            found.append(model(input_ids=torch.tensor([IDS]), logits_to_keep=1).logits[0, -1].clone())
    return found[0], found[1]
