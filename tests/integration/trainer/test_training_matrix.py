"""Every method learns every objective that it is not refused with: two steps, whose result is saved, loaded, asked for
answers and merged.

Where an objective compares with the start, each method that has a reference of its own goes on from there; where none
does, lora and full stand for all. LoRA scaled by the root of its rank (`lora.rsLora`) has a cell of its own. Answers
(`sft`) are in test_training_methods.py and test_training_forgetting.py.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.evaluator.contract import PREDICTIONS, RESULT, JobFile, Target
from services.evaluator.contract import Result as Evaluated
from services.evaluator.job.scoring import Limits, score
from services.evaluator.job.subjects import Subjects
from services.evaluator.job.work import run_job as evaluate
from services.trainer.files import Result
from services.trainer.job.methods import save_result
from shared.clock import SystemClock
from shared.events import ArtifactRef, DatasetRef
from shared.prompts import Example, encode, end_token_id
from shared.recipe import LOW_RANK, RL, Method, Objective, TrainingRecipe
from shared.recipe_checks import MERGEABLE
from shared.recipe_matrix import OBJECTIVES, OPTIONS, Option, methods_for, refusal
from shared.reward_models import load_reward_model
from shared.s3 import ArtifactStore
from tests.support.trained import METHODS, Trained
from tests.support.training import put_dataset

# PEFT calls models with the name that their cache had before transformers 5.20; a job's own log leaves such advice out.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::FutureWarning"),
              pytest.mark.filterwarnings("ignore::UserWarning")]

STEPS: dict[str, Any] = {
    "batch_size": 4, "learning_rate": 1e-2, "checkpoint_every_steps": 100, "max_length": 64,
    "lora": {"rank": 4, "alpha": 8},
}
DRAWN: dict[str, Any] = {"batch_size": 8, "reward": {"max_characters": 9}}
OWN: dict[Objective, dict[str, Any]] = {
    "pretrain": {"batch_size": 8},
    "distill": {"distillation": {"teacher": "tiny", "alpha": 0.5}},
    "grpo": {**DRAWN, "rl": {"group_size": 8, "max_new_tokens": 3, "steps": 2}},
    "rloo": {**DRAWN, "rl": {"group_size": 8, "max_new_tokens": 3, "steps": 2}},
    "ppo": {**DRAWN, "rl": {"passes": 2, "max_new_tokens": 3, "steps": 1}},
}
FORGETTING: dict[Option, dict[str, Any]] = {
    "forgetting.replay": {"replay": {"share": 0.5}}, "forgetting.ewc": {"ewc": {"strength": 100.0, "rows": 2}},
    "forgetting.l2": {"l2": {}}, "forgetting.gradualUnfreezing": {"gradual_unfreezing": {"steps_per_stage": 1}},
}
# What a policy that is its own reference has: as loss ln 2 and one half, and no divergence from itself.
COMPARED: dict[Objective, tuple[str, float]] = {
    "dpo": ("loss", math.log(2)), "kto": ("loss", 0.5), **dict.fromkeys(RL, ("validation_kl", 0.0)),
}
# Options that are no part of going on: one is asked of the result, one is a cell of its own.
APART: tuple[Option, ...] = ("merge", "lora.rsLora")
STILL = {"learning_rate": 1e-12, "optimizer": "sgd"}


RSLORA = "rslora"
"""Of the cells, the one that is no method of its own: lora with `lora.rsLora`."""
CELLS = [
    (objective, cell) for objective in OBJECTIVES if objective != "sft"
    for cell in (*methods_for(objective), *([RSLORA] if "lora" in methods_for(objective, "lora.rsLora") else []))
]


class Cells:
    """A job of two steps for each pair, on the same eight rows."""

    def __init__(self, store: ArtifactStore, cache: Path, folder: Path) -> None:
        rows: list[dict[str, Any]] = [{
            "messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}],
            "rejected": "no", "desired": index % 2 == 0, "text": f"{word} is {index} " * 20, "task": f"t{index % 2}",
        } for index, word in enumerate("abcdefghijklmnopqrst")]
        self.earlier: DatasetRef = put_dataset(store, folder / "earlier", train=rows[12:18], validation=rows[18:])
        dataset = put_dataset(store, folder / "rows", train=rows[:8], validation=rows[8:10], test=rows[10:12])
        self.jobs = Trained(store, dataset, cache, folder)
        asked = [{"messages": row["messages"]} for row in rows]
        self.answers = put_dataset(
            store, folder / "answers", train=asked[:8], validation=asked[8:10], test=asked[10:12]
        )
        self.messages = rows[8]["messages"]
        self._learned: dict[tuple[Objective, str], Result] = {}

    def learn(self, objective: Objective, cell: str) -> Result:
        """Of two steps from the base, once."""
        if (objective, cell) not in self._learned:
            self._learned[objective, cell] = self._run(f"{objective}-{cell}", objective, cell, {})
        return self._learned[objective, cell]

    def learn_from(self, judge: ArtifactRef) -> Result:
        """Of two steps from a reward model that is named by its version, on rows that the evaluator asks, too."""
        reward = {"reward": {"model": "answers@1", "max_characters": 9}}
        return self._run("judged", "rloo", "lora", reward, judge=judge, dataset=self.answers)

    def go_on(self, objective: Objective, cell: str, start: ArtifactRef, options: Sequence[Option]) -> Result:
        """With the options, from an earlier result where that is one of them."""
        forgetting = {key: value for each in options for key, value in FORGETTING.get(each, {}).items()}
        recipe: dict[str, Any] = {"forgetting": forgetting}
        if "multiTask" in options:
            del forgetting["replay"]  # either of both decides which rows there are
            recipe["multi_task"] = {}
        if "startFrom" in options and objective in COMPARED:
            recipe |= STILL
        sources = {"start": start if "startFrom" in options else None, "earlier": self.earlier.artifact}
        return self._run(f"{objective}-{cell}-on", objective, cell, recipe, **sources)

    def fetch(self, result: Result) -> Path:
        folder = self.jobs.folder / result.adapter.digest[7:]
        if not folder.exists():
            self.jobs.store.get_dir(result.adapter, folder)
        return folder

    def _run(self, run: str, objective: Objective, cell: str, recipe: dict[str, Any], **sources: Any) -> Result:
        own = {**STEPS, **METHODS[cell], **OWN.get(objective, {}), "objective": objective, **recipe}
        job = self.jobs.job(cell, run, **own)
        return self.jobs.run(job.model_copy(update=sources))


@pytest.fixture(scope="module")
def cells(store: ArtifactStore, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Cells:
    return Cells(store, cache, tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize(("objective", "cell"), CELLS)
def test_two_steps_are_saved_loaded_asked_and_merged_and_gone_on_from(
    cells: Cells, tiny_model: Path, objective: Objective, cell: str
) -> None:
    method: Method = METHODS[cell].get("method", cell)
    whole = cells.learn(objective, cell)
    assert whole.steps == 2
    assert whole.metrics["logit_change"] > 0
    folder, tokenizer = cells.fetch(whole), AutoTokenizer.from_pretrained(tiny_model)
    if method in LOW_RANK:
        assert json.loads((folder / "adapter_config.json").read_bytes())["use_rslora"] == (cell == RSLORA)
    options = [each for each in OPTIONS if each not in APART and refusal(method, objective, each) is None]
    compares = "startFrom" in options and objective in COMPARED
    if options and (compares or method in ("lora", "full")):
        gone_on = cells.go_on(objective, cell, whole.adapter, options).metrics
        if compares:
            metric, at_the_start = COMPARED[objective]
            assert gone_on[metric] == pytest.approx(at_the_start, abs=1e-4)
        elif "forgetting.l2" in options:
            assert gone_on["penalty"] > 0
    if objective == "reward":
        (scored,) = load_reward_model(folder, tiny_model, tokenizer).score([cells.messages], batch_size=1)
        assert math.isfinite(scored)
        return
    example = encode(tokenizer, cells.messages)
    adapted = asked(folder, tiny_model, example, tokenizer)
    if method in MERGEABLE:
        merged = merge(folder, tiny_model, method, tokenizer)
        torch.testing.assert_close(asked(merged, tiny_model, example, tokenizer), adapted, atol=1e-3, rtol=1e-3)


def test_answers_are_judged_by_the_reward_model_that_they_were_rewarded_by(cells: Cells, tiny_model: Path) -> None:
    judge, store = cells.learn("reward", "lora"), cells.jobs.store
    learned = cells.learn_from(judge.adapter)
    manifest = store.manifest(learned.adapter.uri)
    assert manifest is not None
    assert manifest.meta["reward_model_digest"] == judge.adapter.digest
    output = f"s3://{store.bucket}/evaluations/judged/1/"
    evaluate(JobFile(
        evaluation_id="judged", attempt=1, base_model="tiny", candidate=learned.adapter, dataset=cells.answers,
        base=ArtifactRef(uri=f"s3://{store.bucket}/base-models/tiny/", digest=learned.base_model_digest),
        production=None, targets=[Target("candidate", "heldout"), Target("base", "heldout")], max_new_tokens=3,
        max_rows=9, batch_size=4, output=output,
    ), store, cells.jobs.cache, SystemClock())
    measured = Evaluated.model_validate_json(store.get_bytes(output + RESULT)).measurements
    lines = [json.loads(line) for line in store.get_bytes(output + PREDICTIONS).splitlines()]
    model = load_reward_model(cells.fetch(judge), tiny_model, AutoTokenizer.from_pretrained(tiny_model))
    asks = {row["expected"]: row for row in lines}
    for item in measured:
        said = [[{"role": "user", "content": f"say {word}"},
                 {"role": "assistant", "content": line["predicted"][item.subject]}] for word, line in asks.items()]
        assert item.metrics["reward"] == pytest.approx(sum(model.score(said, batch_size=1)) / len(said), abs=1e-4)


def asked(folder: Path, base: Path, example: Example, tokenizer: Any) -> torch.Tensor:
    """Logits after the prompt, as the evaluator computes them, which has also drawn two tokens of an answer."""
    subjects = Subjects(base, [example])
    subjects.attach("candidate", folder, name="it")
    with subjects.active("candidate") as model, torch.inference_mode():
        (scored,) = score(model, [example], Limits(max_new_tokens=2, batch_size=1, end=end_token_id(tokenizer)))
        assert 1 <= len(scored.generated) <= 2
        ids = torch.tensor([example.input_ids[: example.prompt_length]])
        logits: torch.Tensor = model(input_ids=ids, logits_to_keep=1).logits[0, -1].clone()
    return logits


def merge(folder: Path, base: Path, method: Method, tokenizer: Any) -> Path:
    """What the job itself makes of a recipe with `merge`, of the adapter in the folder."""
    merged = folder.with_name(f"{folder.name}-merged")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))
    recipe = TrainingRecipe(method=method, merge=True)
    save_result(model, recipe, merged, base=base, name="tiny", tokenizer=tokenizer)
    return merged
