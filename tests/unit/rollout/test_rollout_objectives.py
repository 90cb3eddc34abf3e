"""Objectives in the reducer: proved in the last step, met, missed or undecided, each with its numbers."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from services.rollout.abtest import effect
from services.rollout.analysis import Counts
from services.rollout.counts import Reading
from services.rollout.evidence import summary
from services.rollout.notices import Subject, sentence
from services.rollout.observation import Command, Observation
from services.rollout.plan.answer import plan
from services.rollout.plan.contract import Candidate, Request, Traffic
from services.rollout.queries import queries_of
from services.rollout.state import FULL_WEIGHT
from services.rollout.wanted import Record, Shift
from shared.pipeline import Guardrail, Objective, RolloutStep
from tests.support.rollouts import CANDIDATE, STABLE, World, policy, row_of

SHORT: dict[str, Any] = {"min_duration": timedelta(seconds=10), "min_requests": 10}
NOT_WORSE = Objective(metric="errors", goal="not_worse", margin=0.2)
BETTER = Objective(metric="errors", goal="better", margin=0.1)


def world(objective: Objective, **changes: object) -> World:
    """In the last of two steps; errors are the objective and guarded too, so leniently that nothing ever fires."""
    lenient = Guardrail(metric="errors", tolerable_rate=0.9, hard_limit=None)
    made = World(policy(objectives=[objective], guardrails=[lenient], alpha=0.05, **changes))
    made.to_step(2)
    return made


def numbers(made: World) -> dict[str, Any]:
    return summary(made.state, made.policy)["objective errors"]


def test_not_worse_holds_until_it_is_proved_and_then_promotes_with_its_numbers() -> None:
    made = world(NOT_WORSE)
    made.serve(20, 20)
    made.look(10)
    assert (made.state.phase, made.state.step) == ("progressing", 2)
    assert "the objective errors is undecided: errors (better is lower): candidate 0 of 20 (0.0%)" in made.state.reason
    made.serve(400, 400, bad=20, bad_stable=20)
    made.look()
    assert Shift(FULL_WEIGHT) in made.effects
    assert "; met: errors (better is lower): candidate 20 of 420" in made.state.reason
    assert (numbers(made)["verdict"], numbers(made)["min_effect"]) == ("candidate", -0.2)


def test_one_that_is_surely_missed_ends_the_rollout_and_no_guardrail_fired() -> None:
    made = world(BETTER)
    made.serve(400, 400, bad=20, bad_stable=20)
    made.look(10)
    [record] = [effect for effect in made.effects if isinstance(effect, Record)]
    assert (record.action, record.rule, made.state.fired) == ("rollback", "objective", "")
    assert record.reason.startswith("missed for sure: errors (better is lower): candidate 20 of 400")


def test_better_is_met_by_more_than_its_margin_only() -> None:
    made = world(BETTER)
    made.serve(1000, 1000, bad=10, bad_stable=300)
    made.look(10)
    assert made.state.phase == "promoting"


def test_users_who_bring_many_bad_requests_widen_the_interval() -> None:
    def width(users: int) -> float:
        made = world(NOT_WORSE)
        made.serve(60, 60, bad=20)
        made.met["errors", CANDIDATE] = users
        made.look()
        found = effect(made.state.objectives["errors"], NOT_WORSE, 0.05)
        return found.high - found.low

    assert width(2) > 1.3 * width(20)


def test_it_is_neither_promoted_nor_ended_before_the_step_has_had_its_time() -> None:
    made = world(BETTER)
    made.serve(400, 400, bad=20, bad_stable=20)
    made.look(1)
    assert (made.state.phase, numbers(made)["verdict"]) == ("progressing", "stable")
    assert "the objective errors is missed" in made.state.reason


def test_a_changed_split_begins_anew_but_not_where_a_control_has_the_same_share() -> None:
    made = world(NOT_WORSE)
    assert made.state.objectives["errors"].candidate == Counts()
    kept = world(NOT_WORSE, control=True)
    assert kept.state.objectives["errors"].candidate.total > 0


def test_the_first_step_does_not_wait_for_it() -> None:
    made = World(policy(objectives=[BETTER]))
    made.to_step(2)
    assert made.state.step == 2


def test_undecided_at_the_deadline_does_what_the_policy_says() -> None:
    made = world(NOT_WORSE, deadline=timedelta(minutes=2), on_insufficient_evidence="rollback")
    for _ in range(40):
        made.serve(1, 1)
        made.look()
    assert made.state.ending == "rolled_back"
    assert "undecided after 120 s" in made.state.reason


def test_without_data_it_holds() -> None:
    made = World(policy(objectives=[Objective(metric="thumbs_down")]))
    made.to_step(1)
    made.serve(600, 600)
    for _ in range(5):
        made.look()
    assert made.state.step == 1
    assert "no data for thumbs_down because it was not read" in made.state.reason


@pytest.mark.parametrize("goal", ["better", "not_worse"])
def test_a_good_candidate_is_planned_as_one_that_meets_it(goal: str) -> None:
    steps = [RolloutStep(weight=50, **SHORT)]
    rules = policy(steps=steps, objectives=[Objective.model_validate({
        "metric": "thumbs_down", "goal": goal, "margin": 0.05,
    })], deadline=timedelta(hours=6), interval=timedelta(seconds=60))
    answer = plan(Request(
        policy=rules, traffic=Traffic(requests_per_minute=240, bad_rate=0.01, bad_rates={"thumbs_down": 0.3}), runs=10,
        candidates=[Candidate(name="good"), Candidate(name="bad", guardrail="thumbs_down")], horizon=1,
    ), workers=1)
    good, bad = answer.candidates
    assert good.ends["promoted"].share >= 0.8
    assert bad.fired.keys() == {"objective"}


def scores(made: World, stable: tuple[float, int], candidate: tuple[float, int]) -> None:
    """So much more of score, and so many more judgements, by version."""
    for version, (score, number) in ((STABLE, stable), (CANDIDATE, candidate)):
        before = made.counters.get(("feedback_score", "gw", version), (0, 0))
        made.counters["feedback_score", "gw", version] = before[0] + score, before[1] + number  # type: ignore[assignment]


class Judged(World):
    """A world in which people give scores; the guardrails of others are as they were."""

    def observation(self, command: Command | None = None) -> Observation:
        seen = super().observation(command)
        read = tuple(
            Reading(target=target, version=version, cell=cell, value=value, bad=int(cell == "sum"),
                    total=int(cell == "n"))
            for (name, target, version), pair in self.counters.items() if name == "feedback_score"
            for cell, value in zip(("sum", "n"), pair, strict=True)
        )
        return replace(seen, readings={**seen.readings, "feedback_score": self.no_data or read})


@pytest.mark.parametrize(("mean", "end"), [(0.9, "promoting"), (0.5, "aborting"), (0.7, "progressing")])
def test_a_mean_score_is_judged_by_betting(mean: float, end: str) -> None:
    """Stable's mean is 0.6; the candidate's must be better by more than 0.1. Each look brings ten judgements."""
    objective = Objective(metric="feedback_score", direction="higher", margin=0.1)
    made = Judged(policy(objectives=[objective], steps=[RolloutStep(weight=50, **SHORT)], deadline=timedelta(hours=9)))
    scores(made, (0, 0), (0, 0))
    made.to_step(1)
    random = np.random.default_rng(1)
    for _ in range(150):
        made.serve(60, 60)
        scores(made, (float(random.uniform(4, 8)), 10), (float(random.uniform(10 * mean - 1, 10 * mean + 1)), 10))
        made.look()
        if made.state.phase != "progressing":
            break
    assert made.state.phase == end
    numbers = summary(made.state, made.policy)["objective feedback_score"]
    assert float(numbers["candidate_bad"]) / float(numbers["candidate_total"]) == pytest.approx(mean, abs=0.03)
    told = sentence("promoted", Subject(row_of(made.policy), made.state, made.policy, STABLE))
    assert f"objective feedback_score: {numbers['candidate_bad']:g} of" in told, "a good score is nothing bad"


def test_what_a_score_is_asked_from() -> None:
    asked = queries_of(Objective(metric="feedback_score", direction="higher"), "m", STABLE, CANDIDATE)
    assert [(query.version, query.part) for query in asked] == [
        (CANDIDATE, "total"), (CANDIDATE, "bad"), (STABLE, "total"), (STABLE, "bad"),
    ]
    assert asked[1].selector == f'tuneloop_gateway_feedback_score_total{{route="m",model_version="{CANDIDATE}"}}'
