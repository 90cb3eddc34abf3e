"""Many simulated rollouts in a few numbers. Pure."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from services.rollout.plan.contract import Chance, End, Spread
from services.rollout.plan.simulate import Run

_Z = 1.959964


def chance(hits: int, of: int) -> Chance:
    """A share with Wilson's interval at 95 %, which is honest at 0 and 1 too."""
    share = hits / of
    spread = _Z * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    middle, scale = share + _Z**2 / (2 * of), 1 + _Z**2 / of
    return Chance(share=share, low=max(0.0, (middle - spread) / scale), high=min(1.0, (middle + spread) / scale))


def end_by(run: Run, deadline: float) -> End:
    """How a rollout that was simulated beyond its deadline stands at it."""
    if run.end == "undecided" or run.seconds > deadline:
        return "undecided"
    return "promoted" if run.end == "promoted" else "rolled_back"


def ends(runs: Sequence[Run], deadline: float) -> dict[End, Chance]:
    found = Counter(end_by(run, deadline) for run in runs)
    order: tuple[End, ...] = ("promoted", "rolled_back", "undecided")
    return {end: chance(found[end], len(runs)) for end in order}


def seconds(runs: Sequence[Run], deadline: float) -> dict[End, Spread]:
    """How long the decisions took, by end; nothing for an end that never came."""
    times: dict[End, list[float]] = {}
    for run in runs:
        times.setdefault(end_by(run, deadline), []).append(run.seconds)
    return {end: spread(values) for end, values in times.items() if end != "undecided"}


def spread(values: Sequence[float]) -> Spread:
    return Spread(median=float(np.median(values)), p90=float(np.quantile(values, 0.9, method="higher")))


def requests_by(run: Run, deadline: float) -> int:
    """Answered by the candidate until the decision or the deadline."""
    return max(count for at, count in run.requests if at <= deadline)


def users_by(run: Run, deadline: float, users: int, per_second: float) -> float:
    """Expected number of distinct users that the candidate answered until the decision or the deadline.

    Each weight adds users to those who have the candidate already, and a user comes at random times, `per_second` /
    `users` on average.
    """
    until, reached, held = min(run.seconds, deadline), 0.0, 0.0
    for began, weight in run.weights:
        if began < until and weight > held:
            reached += (weight - held) * users * -math.expm1(-per_second / users * (until - began))
            held = weight
    return reached


def promoted_90(runs: Sequence[Run]) -> float | None:
    """Seconds by which nine of ten were promoted, if they were at all."""
    times = sorted(run.seconds for run in runs if run.end == "promoted")
    needed = math.ceil(0.9 * len(runs))
    return times[needed - 1] if len(times) >= needed else None
