"""Two tasks, and the runs that learn the second one after the first, by the trainer's own jobs."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from services.cli.demo.data import INTENTS, make_rows
from services.evaluator.job.scoring import Limits, score
from services.evaluator.job.subjects import Subjects
from services.trainer.files import JobInput, Result
from services.trainer.job.work import run_job
from shared.events import ArtifactRef, DatasetRef
from shared.prompts import Example, encode, end_token_id
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from tests.support.training import put_base_model, put_dataset, write_job

BASE, TAUGHT = "tiny", "tiny-a"
# Half of the demo's intents each: the second task never shows a question of the first.
TASKS = {"a": INTENTS[:3], "b": INTENTS[3:]}
ROWS = {"train": 96, "validation": 12, "test": 96}
LORA: dict[str, Any] = {"method": "lora", "lora": {"rank": 16, "alpha": 32}, "learning_rate": 7e-3}
FULL: dict[str, Any] = {"method": "full", "learning_rate": 1e-3}
COMMON: dict[str, Any] = {"epochs": 8, "batch_size": 16, "max_length": 128, "validate_every_steps": 1000,
                          "checkpoint_every_steps": 1000}

Family = Literal["full", "adapter"]


@dataclass(frozen=True)
class Way:
    """One way to learn task B.

    Attributes:
        family: what knows task A before: the whole model, or an adapter that is gone on from.
        recipe: what differs from the family's plain recipe.
    """

    family: Family
    name: str
    setting: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """Of one model on the held-out rows of both tasks: share of right answers, and nats per token of the right ones."""

    a: float
    b: float
    nats_a: float
    nats_b: float


class Bench:
    """S3 with both tasks and what knows the first, for one seed."""

    def __init__(self, store: ArtifactStore, tiny: Path, folder: Path, seed: int) -> None:
        from transformers import AutoTokenizer

        self.store, self.folder, self.seed, self.tiny = store, folder, seed, tiny
        self._tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
        put_base_model(store, tiny, BASE)
        self.rows = {task: _rows(seed, intents) for task, intents in TASKS.items()}
        self.datasets = {task: put_dataset(store, folder / task, **rows) for task, rows in self.rows.items()}
        taught = self._train("taught", self.datasets["a"], FULL)
        self.whole = folder / "whole"
        store.get_dir(taught, self.whole)
        put_base_model(store, self.whole, f"{TAUGHT}-{seed}")
        self.start = self._train("start", self.datasets["a"], LORA)

    def learn(self, way: Way) -> Scores:
        """Both tasks' scores after the second was learned."""
        plain = FULL if way.family == "full" else LORA
        start = self.start if way.family == "adapter" else None
        base = f"{TAUGHT}-{self.seed}" if way.family == "full" else BASE
        run = f"{way.family}-{way.name}-{way.setting}".replace(" ", "-")
        return self._scores(self._train(run, self.datasets["b"], plain | way.recipe, base=base, start=start), base)

    def before(self, family: Family) -> Scores:
        """Both tasks' scores before the second was learned."""
        return self._scores(None if family == "full" else self.start, f"{TAUGHT}-{self.seed}")

    def _train(
        self, run: str, dataset: DatasetRef, recipe: dict[str, Any], *, base: str = BASE,
        start: ArtifactRef | None = None,
    ) -> ArtifactRef:
        made = TrainingRecipe.model_validate({**COMMON, **recipe, "seed": self.seed})
        job = write_job(self.store, dataset, made, run=f"{run}-{self.seed}", base_model=base)
        earlier = self.datasets["a"].artifact if made.forgetting.needs_earlier else None
        job = job.model_copy(update={"start": start, "earlier": earlier})
        return self._result(job).adapter

    def _result(self, job: JobInput) -> Result:
        if not run_job(job, self.store, self.folder / "cache", threading.Event()):
            raise SystemExit(f"{job.run_id} was stopped")
        return Result.model_validate_json(self.store.get_bytes(f"{job.prefix}result.json"))

    def _scores(self, trained: ArtifactRef | None, base: str) -> Scores:
        examples = {task: [encode(self._tokenizer, row["messages"], max_length=128) for row in rows["test"]]
                    for task, rows in self.rows.items()}
        subjects = Subjects(self.whole if base != BASE and trained is None else self._base_of(base), examples["a"])
        if trained is not None:
            target = self.folder / trained.digest[7:]
            self.store.get_dir(trained, target)
            subjects.attach("candidate", target, name="it")
        with subjects.active("base" if trained is None else "candidate") as model:
            a, b = (_measured(model, examples[task], end_token_id(self._tokenizer)) for task in ("a", "b"))
        return Scores(a[0], b[0], a[1], b[1])

    def _base_of(self, base: str) -> Path:
        return self.tiny if base == BASE else self.whole


def _measured(model: Any, examples: Sequence[Example], end: int) -> tuple[float, float]:
    scored = score(model, examples, Limits(end=end, max_new_tokens=12, batch_size=32))
    right = [each.generated == example.input_ids[example.prompt_length :]
             for each, example in zip(scored, examples, strict=True)]
    return sum(right) / len(right), sum(each.nats for each in scored) / sum(each.tokens for each in scored)


def _rows(seed: int, intents: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    wanted = sum(ROWS.values())
    rows = [row for row in make_rows("good", 2 * wanted, seed) if row["messages"][-1]["content"] in intents]
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, count in ROWS.items():
        splits[split], rows = rows[:count], rows[count:]
    return splits
