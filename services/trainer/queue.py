"""Which waiting runs may launch their jobs. Pure.

Each hardware class has so many places. A run holds one from its first launch until it ends, between its attempts, too.
Free places go to the highest priority; a waiting run gains one priority for each `aging` that it waits. Among equals
the pipeline with the fewest runs at work comes first, then the oldest run.

Nothing starves: priorities are bounded, so a run that has waited for `aging` times the difference to the highest
priority is preferred to every run that comes after that, and those before it are finitely many.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DEFAULT_CLASS = "default"


@dataclass(frozen=True)
class Place:
    """A run that holds a place, of a pipeline and on a hardware class."""

    pipeline: str
    hardware: str


@dataclass(frozen=True)
class Waiting(Place):
    """A run that waits for one, since a moment."""

    run_id: str
    priority: int
    since: datetime


def next_up(
    waiting: Sequence[Waiting], held: Sequence[Place], places: Callable[[str], int], *, now: datetime, aging: timedelta
) -> list[str]:
    """Ids of the runs that get the free places, in the order in which they get them.

    Args:
        places: of a hardware class.
        aging: of waiting is worth one priority.
    """
    taken = Counter(place.hardware for place in held)
    at_work = Counter((place.hardware, place.pipeline) for place in held)
    left, chosen = list(waiting), []
    while left:
        best = min(left, key=lambda run: _rank(run, at_work, now, aging))
        left.remove(best)
        if taken[best.hardware] < places(best.hardware):
            taken[best.hardware] += 1
            at_work[best.hardware, best.pipeline] += 1
            chosen.append(best.run_id)
    return chosen


def why_waiting(run: Waiting, waiting: Sequence[Waiting], held: Sequence[Place], places: int) -> str:
    """For the person who waits with it."""
    others = sum(other.hardware == run.hardware for other in waiting) - 1
    taken = sum(place.hardware == run.hardware for place in held)
    return (f"queued with priority {run.priority}: {taken} of {places} places of hardware class {run.hardware} are "
            f"taken, and {others} other runs wait for one")


def _rank(
    run: Waiting, at_work: Counter[tuple[str, str]], now: datetime, aging: timedelta
) -> tuple[int, int, datetime, str]:
    gained = max(timedelta(), now - run.since) // aging
    return (-(run.priority + gained), at_work[run.hardware, run.pipeline], run.since, run.run_id)
