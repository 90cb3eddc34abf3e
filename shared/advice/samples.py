"""How many examples a task needs. Pure."""

from dataclasses import dataclass

from shared.advice import sources
from shared.advice.profile import Complexity
from shared.advice.sources import Source

# Rows that a mid-sized model needs for a simple task, and what the task and the model make of it. LIMA aligned a 65B
# model with 1,000 curated rows; a 135M model learned six intents from 360 rows here.
_BASE = 1000
_BY_TASK: dict[Complexity, float] = {"simple": 1.0, "moderate": 2.5, "complex": 5.0}
_LARGE, _SMALL = 30e9, 7e9
_LEAST_SHARE = 0.1
_LEAST = 100


@dataclass(frozen=True)
class Samples:
    """Examples: fewer than `minimum` are not worth a training; from `recommended` on, quality counts more."""

    minimum: int
    recommended: int
    source: Source


def samples_needed(complexity: Complexity, parameters: int | None) -> Samples:
    """For a task and a base model of so many weights; a model that nobody named counts as a mid-sized one."""
    size = 1.0 if parameters is None else 0.5 if parameters >= _LARGE else 1.0 if parameters >= _SMALL else 2.0
    recommended = int(_BASE * _BY_TASK[complexity] * size)
    return Samples(max(_LEAST, int(recommended * _LEAST_SHARE)), recommended, sources.SAMPLES)
