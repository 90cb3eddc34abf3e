"""What all checks are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from services.registry.views import DatasetView, EvaluationView, ModelView, RolloutView, RunView
from shared.events import Measurement
from shared.pipeline import PipelineSpec
from shared.recipe import TrainingRecipe

Phase = Literal["before", "during", "after", "production"]
State = Literal["passed", "failed", "not_applicable", "not_run"]


class Check(BaseModel):
    """One line of the list; `why` has the recorded numbers, or says what is missing."""

    phase: Phase
    check: str
    state: State
    why: str


class Checklist(BaseModel):
    """The whole list for one run, in the state that the run is in."""

    run_id: str
    state: str
    checks: list[Check]


@dataclass(frozen=True)
class Facts:
    """What the registry has heard about one run; None is what it has not heard (yet).

    Attributes:
        spec: of the run's version of its pipeline.
        evaluation: the newest of the run's adapter.
        model: the version that it became.
    """

    run: RunView
    spec: PipelineSpec | None
    dataset: DatasetView | None
    evaluation: EvaluationView | None
    model: ModelView | None
    rollout: RolloutView | None

    @property
    def learns_texts(self) -> bool:
        """Whether rows are texts, of which no token is an answer's."""
        return self.spec is not None and self.spec.training.objective == "pretrain"

    def metric(self, name: str) -> float | None:
        """What the training job measured at its end."""
        return (self.run.metrics or {}).get(name)

    @property
    def recipe(self) -> TrainingRecipe | None:
        """As it was trained with: what was left open is what the trainer chose, once the run has told it."""
        return None if self.spec is None else self.spec.training.taking(self.run.chosen or {})

    def chosen(self, key: str) -> str | None:
        """What the trainer chose for a key of the recipe that was left open, and why; told when the run has begun."""
        return (self.run.chosen or {}).get(key)

    def measured(self, subject: str, on: str = "heldout") -> Measurement | None:
        """What the evaluation measured of a subject."""
        found = (self.evaluation.measurements if self.evaluation else None) or []
        return next((item for item in found if (item.subject, item.on) == (subject, on)), None)


@dataclass(frozen=True)
class Outcome:
    """What a check came to."""

    state: State
    why: str


Questions = Mapping[str, Callable[[Facts], Outcome] | Outcome]
"""The checks of a phase by name; an `Outcome` is what is said of every run, because nothing records it."""


def passed(why: str) -> Outcome:
    return Outcome("passed", why)


def failed(why: str) -> Outcome:
    return Outcome("failed", why)


def not_applicable(why: str) -> Outcome:
    return Outcome("not_applicable", why)


def not_run(why: str) -> Outcome:
    return Outcome("not_run", why)


def judged(good: bool, why: str) -> Outcome:
    return passed(why) if good else failed(why)


NO_DATASET = not_run("the dataset's own facts have not arrived")
NO_SPEC = not_run("the pipeline's version is not known")
