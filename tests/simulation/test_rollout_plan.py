"""The planner: the real reducer on made-up counters, and what is made of many such rollouts."""

import json
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from services.rollout.plan import summary
from services.rollout.plan.answer import plan
from services.rollout.plan.contract import Answer, Candidate, Request, Traffic
from services.rollout.plan.simulate import Run, simulate
from shared.errors import InvalidInputError
from shared.pipeline import Guardrail, RolloutPolicy, RolloutStep

# The one of docs/rollouts.md, where its numbers were measured by another simulation.
SMALL = RolloutPolicy(
    interval=timedelta(seconds=3),
    steps=[RolloutStep(weight=20, min_duration=timedelta(seconds=10), min_requests=10),
           RolloutStep(weight=50, min_duration=timedelta(seconds=10), min_requests=10)],
    guardrails=[Guardrail(metric="errors", tolerable_rate=0.1)],
)
# Stable at the tolerable rate: only the comparison can prove anything.
HARD = SMALL.model_copy(update={"guardrails": [Guardrail(metric="errors", tolerable_rate=0.011)]})
GOOD, BAD = Candidate(name="good"), Candidate(name="bad")


def answers(policy: RolloutPolicy, rate: float, *candidates: Candidate, runs: int = 60, **traffic: Any) -> list[Answer]:
    request = Request(policy=policy, traffic=Traffic(requests_per_minute=rate, **traffic), candidates=list(candidates),
                      runs=runs)
    return plan(request, workers=1).candidates


def test_a_good_candidate_is_promoted_and_a_bad_one_rolled_back() -> None:
    good, bad = answers(SMALL, 240, GOOD, BAD)
    assert (good.candidate_bad_rate, bad.candidate_bad_rate) == (0.01, 0.2)
    assert good.ends["promoted"].share >= 0.9
    assert 50 <= good.seconds["promoted"].median <= 90
    assert bad.ends["rolled_back"].share >= 0.95
    assert bad.fired == {"errors": round(bad.ends["rolled_back"].share * bad.runs)}
    assert bad.seconds["rolled_back"].median < good.seconds["promoted"].median


def test_too_little_traffic_leaves_a_good_candidate_undecided_and_says_what_deadline_would_do() -> None:
    short = SMALL.model_copy(update={"deadline": timedelta(minutes=5)})
    [good] = answers(short, 40, GOOD)
    assert good.ends["undecided"].share >= 0.7
    assert good.promoted_90_seconds is not None
    assert good.promoted_90_seconds > 300
    [longer] = answers(short.model_copy(update={"deadline": timedelta(seconds=good.promoted_90_seconds)}), 40, GOOD)
    assert longer.ends["promoted"].high >= 0.9


def test_a_policy_that_can_prove_nothing_promotes_nobody() -> None:
    hopeless = [Guardrail(metric="errors", tolerable_rate=1e-4, margin=1.01)]
    [good] = answers(SMALL.model_copy(update={"guardrails": hopeless}), 60, GOOD, runs=20)
    assert good.ends["promoted"].share < 0.2
    assert good.promoted_90_seconds is None


def test_a_harmless_candidate_is_rolled_back_no_more_often_than_alpha() -> None:
    [good] = answers(HARD, 600, GOOD, runs=200)
    assert good.ends["rolled_back"].low <= HARD.alpha


def test_the_candidate_differs_on_the_named_guardrail_only() -> None:
    guardrails = [Guardrail(metric="errors", tolerable_rate=0.1),
                  Guardrail(metric="latency", slo_seconds=2.5, tolerable_rate=0.2)]
    policy = SMALL.model_copy(update={"guardrails": guardrails})
    [bad] = answers(policy, 240, Candidate(name="bad", guardrail="latency>2.5s"), runs=20,
                    bad_rates={"latency>2.5s": 0.05})
    assert (bad.stable_bad_rate, bad.candidate_bad_rate) == (0.05, 0.5)
    assert set(bad.fired) == {"latency>2.5s"}


def test_a_guardrail_that_the_policy_does_not_have_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(InvalidInputError, match=r"no guardrail 'latency'; it has errors"):
        answers(SMALL, 60, Candidate(name="bad", guardrail="latency"))
    with pytest.raises(InvalidInputError, match=r"no guardrail 'refusals'"):
        answers(SMALL, 60, GOOD, bad_rates={"refusals": 0.1})


def test_the_same_seed_gives_the_same_plan_in_one_process_and_in_two() -> None:
    request = Request(policy=SMALL, traffic=Traffic(requests_per_minute=240), candidates=[GOOD, BAD], runs=10)
    assert plan(request, workers=1) == plan(request, workers=2)
    assert plan(request, workers=1) != plan(request.model_copy(update={"seed": 2}), workers=1)


def test_rollouts_of_many_looks_are_simulated_less_often() -> None:
    [good] = answers(HARD, 5, GOOD, runs=100)
    assert good.runs < 100


def test_looks_grow_apart_and_end_at_the_horizon() -> None:
    run = simulate(HARD, Traffic(requests_per_minute=5), {"errors": 0.01}, timedelta(hours=8), np.random.default_rng(1))
    times = [seconds for seconds, _ in run.requests]
    assert times[1] - times[0] == 3
    assert times[-1] == 8 * 3600
    assert run.looks < 300
    assert all(after - before <= max(3.0, 0.051 * before) for before, after in pairwise(times))


def test_an_interval_of_nothing_ends_too() -> None:
    policy = SMALL.model_copy(update={"interval": timedelta(0), "deadline": timedelta(minutes=1)})
    [good] = answers(policy, 600, GOOD, runs=2)
    assert good.runs >= 1


def test_shares_have_an_error_also_at_none_and_all() -> None:
    none, some, every = summary.chance(0, 100), summary.chance(50, 100), summary.chance(100, 100)
    assert (none.low, every.high) == (0.0, 1.0)
    assert none.high == pytest.approx(0.037, abs=0.001)
    assert some.low == pytest.approx(0.404, abs=0.001)
    assert some.high == pytest.approx(0.596, abs=0.001)


def test_users_are_counted_once_however_large_the_weight_becomes() -> None:
    run = Run("undecided", "", 1e6, [(0.0, 0), (1e6, 10)], [(0.0, 0.1), (100.0, 0.5)], 1)
    assert summary.users_by(run, 1e6, users=1000, per_second=10.0) == pytest.approx(500)
    assert summary.users_by(run, 100.0, users=1000, per_second=10.0) == pytest.approx(100 * (1 - np.exp(-1)))


def test_a_decision_after_the_deadline_is_none() -> None:
    run = Run("promoted", "", 200.0, [(0.0, 0), (100.0, 5), (200.0, 9)], [(0.0, 0.1)], 2)
    assert [summary.end_by(run, deadline) for deadline in (199.0, 200.0)] == ["undecided", "promoted"]
    assert [summary.requests_by(run, deadline) for deadline in (150.0, 200.0)] == [5, 9]


def test_as_a_process() -> None:
    request = Request(policy=SMALL, traffic=Traffic(requests_per_minute=240), candidates=[GOOD], runs=5)
    done = subprocess.run([sys.executable, "-m", "services.rollout.plan"], input=request.model_dump_json(),
                          capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(plan(request, workers=1).model_dump_json())
    done = subprocess.run([sys.executable, "-m", "services.rollout.plan"], input=request.model_dump_json().replace(
        '"guardrail":null', '"guardrail":"x"'), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "the policy has no guardrail 'x'; it has errors\n")
