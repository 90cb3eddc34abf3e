"""What the API answers with about A/B tests, objectives and latency."""

import math
from typing import Literal

from pydantic import BaseModel

from services.rollout.abtest import effect
from services.rollout.analysis import Counts, Interval
from services.rollout.latency import quantiles
from services.rollout.state import AbVerdict, RolloutState
from shared.pipeline import RolloutPolicy

ObjectiveVerdict = Literal["met", "missed", "undecided", "no_data"]
_VERDICTS: dict[AbVerdict, ObjectiveVerdict] = {
    "candidate": "met", "stable": "missed", "undecided": "undecided", "no_data": "no_data",
}


class QuantileView(BaseModel):
    """A quantile of the latency in seconds, as the histogram's buckets know it; None is beyond the last bucket."""

    level: float
    low: float
    high: float | None
    estimate: float | None


class LatencyView(BaseModel):
    """How long answers take since the candidate's first weight, with confidence sequences. Nothing is decided by it.

    Attributes:
        alpha: bound on the chance that the interval of a quantile ever misses the truth.
        stable: of what the candidate is compared with: the control where there is one. Empty where nothing was seen.
    """

    alpha: float
    stable: list[QuantileView]
    candidate: list[QuantileView]


class AbTestView(BaseModel):
    """An A/B test: decided when the interval of the effect is on one side of `min_effect`.

    Attributes:
        metric: what decides, by name.
        direction: which share is better.
        stable: counts that the candidate is compared with: the control's where there is one.
        effect: by how much the candidate's share is better than stable's, with its confidence sequence.
        alpha: bound on the chance that the interval ever misses the truth.
    """

    metric: str
    direction: str
    stable: Counts
    candidate: Counts
    effect: Interval
    min_effect: float
    alpha: float
    verdict: AbVerdict
    no_data: str | None


class ObjectiveView(BaseModel):
    """An objective: met when the whole interval of the effect is above `bound`, missed when all of it is below.

    Attributes:
        bound: by how much the candidate's share must be better; negative where it may be worse.
        stable: counts that the candidate is compared with: the control's where there is one.
        effect: by how much the candidate's share is better, with its confidence sequence.
    """

    metric: str
    goal: str
    direction: str
    stable: Counts
    candidate: Counts
    effect: Interval
    bound: float
    verdict: ObjectiveVerdict
    no_data: str | None


def ab_test_view(state: RolloutState, policy: RolloutPolicy) -> AbTestView | None:
    """The A/B test of a rollout; None where it is none."""
    test, mine = policy.ab_test, state.ab_test
    if test is None or mine is None:
        return None
    return AbTestView(
        metric=test.called, direction=test.direction, stable=mine.stable, candidate=mine.candidate,
        effect=effect(mine, test, policy.alpha), min_effect=test.min_effect, alpha=policy.alpha, verdict=mine.verdict,
        no_data=state.blind.get(test.called),
    )


def latency_view(state: RolloutState, policy: RolloutPolicy) -> LatencyView | None:
    """None where no answer was seen."""
    stable, candidate = (
        [QuantileView(level=level, low=found.low, high=_finite(found.high), estimate=_finite(found.estimate))
         for level, found in quantiles(state.latencies, role, policy.alpha).items()]
        for role in ("stable", "candidate")
    )
    return LatencyView(alpha=policy.alpha, stable=stable, candidate=candidate) if stable or candidate else None


def objective_views(state: RolloutState, policy: RolloutPolicy) -> list[ObjectiveView]:
    """The objectives of a rollout, in the order of its policy."""
    return [
        ObjectiveView(
            metric=objective.called, goal=objective.goal, direction=objective.direction, stable=mine.stable,
            candidate=mine.candidate, effect=effect(mine, objective, policy.alpha), bound=objective.bound,
            verdict=_VERDICTS[mine.verdict], no_data=state.blind.get(objective.called),
        )
        for objective in policy.objectives if (mine := state.objectives[objective.called])
    ]


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
