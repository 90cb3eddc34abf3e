"""A/B tests: who wins as often as planned, and how rarely an answer is wrong under continuous looking."""

import math
from datetime import timedelta

import numpy as np
import pytest

from services.rollout import abtest
from services.rollout.analysis import Counts
from services.rollout.plan.answer import plan
from services.rollout.plan.contract import Answer, Candidate, Request, Traffic
from services.rollout.state import ObjectiveState
from shared.pipeline import AbTest, Guardrail, RolloutStep
from tests.support.rollouts import policy

TEST = AbTest(metric="thumbs_down")


def planned(least: float, runs: int, **rates: float) -> list[Answer]:
    long = policy(
        steps=[RolloutStep(weight=50, min_duration=timedelta(seconds=10), min_requests=10)],
        guardrails=[Guardrail(metric="errors")], interval=timedelta(seconds=60), deadline=timedelta(hours=6),
        ab_test=AbTest(metric="thumbs_down", min_effect=least),
    )
    request = Request(policy=long, traffic=Traffic(requests_per_minute=120, bad_rates={"thumbs_down": 0.2}), runs=runs,
                      candidates=[Candidate(name="good", bad_rate=rates.get("good")),
                                  Candidate(name="bad", bad_rate=rates.get("bad"))], horizon=1)
    return plan(request, workers=1).candidates


def test_planned_with_candidates_that_are_a_fifth_better_and_worse() -> None:
    good, bad = planned(0.01, 20)
    assert good.guardrail == "thumbs_down"
    assert good.candidate_bad_rate == pytest.approx(0.15)
    assert bad.candidate_bad_rate == pytest.approx(0.25)
    assert good.ends["promoted"].share >= 0.8
    assert bad.fired.keys() == {"ab_test"}


def test_without_a_difference_an_answer_is_rarer_than_alpha() -> None:
    """Looked at 120 times by the verdict itself, over growing counts."""
    random, wrong, runs = np.random.default_rng(3), 0, 200
    for _ in range(runs):
        stable, candidate = (np.cumsum(random.binomial(60, 0.1, size=120)) for _ in range(2))
        wrong += any(
            abtest.verdict(abtest.effect(ObjectiveState(
                stable=Counts(bad=int(s), total=60 * look), candidate=Counts(bad=int(c), total=60 * look),
            ), TEST, 0.05), TEST) != "undecided"
            for look, (s, c) in enumerate(zip(stable, candidate, strict=True), start=1) if look % 4 == 0
        )
    assert wrong / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
