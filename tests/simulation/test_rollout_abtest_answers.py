"""A/B tests: who wins as often as planned, and how rarely an answer is wrong under continuous looking."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from benchmarks.calibration.scenarios import LOOKS, TRAFFIC, Hypothesis
from benchmarks.calibration.traffic import counters
from services.rollout import abtest
from services.rollout.analysis import Counts, UnitLook
from services.rollout.analysis.clumps import Clumps
from services.rollout.plan.answer import plan
from services.rollout.plan.contract import Answer, Candidate, Request, Traffic
from services.rollout.state import ObjectiveState
from shared.pipeline import AbTest, Guardrail, RolloutStep
from tests.support.rollouts import TOXIC, policy

TEST = AbTest(metric="thumbs_down")


def planned(least: float, runs: int, test: AbTest = TEST) -> list[Answer]:
    long = policy(
        steps=[RolloutStep(weight=50, min_duration=timedelta(seconds=10), min_requests=10)],
        guardrails=[Guardrail(metric="errors")], interval=timedelta(seconds=60), deadline=timedelta(hours=6),
        ab_test=test.model_copy(update={"min_effect": least}),
    )
    request = Request(policy=long, traffic=Traffic(requests_per_minute=120, bad_rates={test.called: 0.2}), runs=runs,
                      candidates=[Candidate(name="good"), Candidate(name="bad")], horizon=1)
    return plan(request, workers=1).candidates


def test_planned_with_candidates_that_are_a_fifth_better_and_worse() -> None:
    good, bad = planned(0.01, 20)
    assert good.guardrail == "thumbs_down"
    assert good.candidate_bad_rate == pytest.approx(0.15)
    assert bad.candidate_bad_rate == pytest.approx(0.25)
    assert good.ends["promoted"].share >= 0.8
    assert bad.fired.keys() == {"ab_test"}


def test_what_names_no_user_is_planned_with_its_own_interval() -> None:
    good, bad = planned(0.01, 10, TOXIC)
    assert good.guardrail == "toxic"
    assert good.ends["promoted"].share >= 0.8
    assert good.seconds["promoted"].median > 25 * 60, "it needs 25 looks of a minute"
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


def answers(runs: int, stable: float, candidate: float, *, known: bool) -> float:
    """The share of tests with an answer, where bad requests cling to a few users; looked at 12 times.

    Args:
        known: the gateways tell which users met them.
    """
    [clustered] = [traffic for traffic in TRAFFIC if traffic.name == "clustered"]
    halves = replace(clustered, users=150, weights=np.full(LOOKS, 0.5))
    drawn = counters(halves, Hypothesis("", "", stable, candidate), runs, np.random.default_rng(80))
    return sum(any(decided(run, units, served, known) for run, units, served in zip(
        drawn.requests[each, 9::10].tolist(), drawn.units[each, 9::10].tolist(), drawn.served[each, 9::10].tolist(),
        strict=True)) for each in range(runs)) / runs


def decided(requests: list[list[int]], units: list[list[int]], served: list[int], known: bool) -> bool:
    """At a look with all that was counted until then."""
    mine, theirs = (Counts(bad=bad, total=total) for bad, total in requests[:2])
    met = UnitLook(stable=tuple(units[0]), candidate=tuple(units[1]), stable_seen=served[0], candidate_seen=served[1])
    state = ObjectiveState(stable=mine, candidate=theirs,
                           clumps=Clumps().updated(mine, theirs, met if known else None))
    return abtest.verdict(abtest.effect(state, TEST, 0.05), TEST) != "undecided"


def test_where_bad_requests_cling_to_users_an_answer_is_as_rare_once_users_are_known() -> None:
    runs = 60
    bar = 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert answers(runs, 0.1, 0.1, known=True) <= bar
    assert answers(runs, 0.1, 0.1, known=False) > bar, "by requests alone it would not be"
    assert answers(20, 0.35, 0.05, known=True) >= 0.8
