"""Training jobs of two steps on the tiny model, in this process, and what the evaluator computes with their results."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from services.evaluator.job.subjects import Subjects
from services.trainer.files import JobInput, Result
from services.trainer.job.work import run_job
from shared.events import DatasetRef
from shared.prompts import Example
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from tests.support.training import write_job

IDS = list(range(20, 50))
# Two steps; large enough that two of them show.
STEPS: dict[str, Any] = {"batch_size": 4, "learning_rate": 5e-2, "checkpoint_every_steps": 1, "max_length": 64,
                         "validate_every_steps": 100, "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {}, "rslora": {"method": "lora", "lora": {"rank": 4, "rs_lora": True}}, "dora": {}, "qlora": {}, "ia3": {},
    "prefix": {"virtual_tokens": 4}, "prompt": {"virtual_tokens": 4}, "adapter": {"bottleneck": 8},
    "full": {"learning_rate": 1e-3},
}


class Trained:
    """Runs each job once, and keeps what it left."""

    def __init__(self, store: ArtifactStore, dataset: DatasetRef, cache: Path, folder: Path) -> None:
        self.store, self.dataset, self.cache, self.folder = store, dataset, cache, folder
        self.results: dict[str, Result] = {}

    def job(self, name: str, run: str, attempt: int = 1, **changes: Any) -> JobInput:
        recipe = TrainingRecipe.model_validate({**STEPS, "method": name, **METHODS[name], **changes})
        return write_job(self.store, self.dataset, recipe, run=run, attempt=attempt)

    def run(self, job: JobInput) -> Result:
        assert run_job(job, self.store, self.cache, threading.Event())
        return Result.model_validate_json(self.store.get_bytes(f"{job.prefix}result.json"))

    def result(self, name: str, **changes: Any) -> Result:
        run = "-".join([name, *changes])
        if run not in self.results:
            self.results[run] = self.run(self.job(name, run, **changes))
        return self.results[run]

    def resumed(self, name: str, run: str, **changes: Any) -> Result:
        """Of a run that was stopped after its first step, and begun again."""
        stop = threading.Event()
        stop.set()
        assert not run_job(self.job(name, run, **changes), self.store, self.cache, stop)
        return self.run(self.job(name, run, attempt=2, **changes))

    def fetched(self, name: str, **changes: Any) -> Path:
        result = self.result(name, **changes)
        target = self.folder / "-".join([name, *changes])
        if not target.exists():
            self.store.get_dir(result.adapter, target)
        return target


def logits(folder: Path, base: Path, ids: Sequence[int] = IDS) -> tuple[torch.Tensor, torch.Tensor]:
    """After the last of `ids`, of the base and of what is in the folder, as the evaluator computes them."""
    subjects = Subjects(base, [Example(input_ids=[*ids, 2], prompt_length=len(ids))])
    subjects.attach("candidate", folder, name="it")
    found = []
    for subject in ("base", "candidate"):
        with subjects.active(subject) as model, torch.inference_mode():
            found.append(model(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[0, -1].clone())
    return found[0], found[1]
