"""What a tracker is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from services.trainer.files import JobInput
from services.trainer.job.rates import Sweep

End = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True)
class Subject:
    """An attempt of a run.

    Attributes:
        parameters: the recipe, flat: ``lora.rank``.
    """

    run_id: str
    pipeline: str
    attempt: int
    parameters: Mapping[str, str]

    @classmethod
    def of(cls, job: JobInput) -> "Subject":
        """That of a job."""
        recipe = job.recipe.model_dump(mode="json", by_alias=True)
        facts = {"baseModel": job.base_model, "dataset": job.dataset.artifact.digest}
        return cls(job.run_id, job.pipeline, job.attempt, {**facts, **dict(_flat(recipe))})


class Tracker(Protocol):
    """Takes a run's values somewhere. Whatever it raises ends its own part in the run, and nothing else."""

    name: str

    def begin(self, subject: Subject, step: int) -> None:
        """An attempt begins after `step` steps; one of a run that it knows goes on with that run."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Values of a step."""
        ...

    def sweep(self, sweep: Sweep) -> None:
        """The range test that chose the learning rate; after `begin`."""
        ...

    def end(self, how: End) -> None:
        """The attempt ended."""
        ...


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        found += _flat(item, f"{before}{key}.") if isinstance(item, dict) else [(before + key, str(item))]
    return found
