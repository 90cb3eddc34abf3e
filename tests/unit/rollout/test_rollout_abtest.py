"""A/B tests: the reducer in a made-up world."""

from datetime import timedelta
from typing import Any

import pytest

from services.rollout import abtest
from services.rollout.analysis import Counts
from services.rollout.evidence import summary
from services.rollout.guardrails import counted_in
from services.rollout.observation import Observation
from services.rollout.samples import NoData
from services.rollout.state import ObjectiveState
from services.rollout.wanted import Record, Shift
from shared.errors import InvalidInputError
from shared.pipeline import AbTest, Guardrail, RolloutPolicy, RolloutStep, ShadowStep, parse_pipeline
from tests.support import facts
from tests.support.rollouts import CANDIDATE, STABLE, World, policy

TEST = AbTest(metric="thumbs_down")
STEP = RolloutStep(weight=50, min_duration=timedelta(seconds=10), min_requests=10)


def rules(**changes: Any) -> RolloutPolicy:
    return policy(**{"steps": [STEP], "guardrails": [Guardrail(metric="errors")], "ab_test": TEST, **changes})


class AbWorld(World):
    """A world whose gateways count thumbs, too; a test that has its split."""

    def __init__(self, rules_: RolloutPolicy) -> None:
        super().__init__(rules_)
        self.to_step(1)

    def serve(
        self, stable: int, candidate: int, *, bad_stable: int = 0, bad: int = 0, metric: str = "", control: int = 0,
        bad_control: int = 0,
    ) -> None:
        super().serve(stable, candidate, bad_stable=bad_stable, bad=bad, metric=metric, control=control,
                      bad_control=bad_control)
        if self.policy.ab_test is not None and self.policy.ab_test.called not in self.state.guardrails:
            for version, total, wrong in ((STABLE, stable, bad_stable), (CANDIDATE, candidate, bad)):
                before = self.counters.get(("thumbs_down", "gw", version), (0, 0))
                hit = not metric or metric == "thumbs_down"
                self.counters["thumbs_down", "gw", version] = before[0] + wrong * hit, before[1] + total

    def observation(self, command: Any = None) -> Observation:
        seen = super().observation(command)
        return Observation(**{
            **vars(seen), "readings": {**seen.readings, "thumbs_down": self.no_data or self._readings("thumbs_down")},
        })

    def thumbs(self, stable: int, bad_stable: int, candidate: int, bad: int) -> list[Any]:
        """Judgements, of faultless requests."""
        self.serve(stable, candidate, bad_stable=bad_stable, bad=bad, metric="thumbs_down")
        return self.look()


def test_it_has_its_split_at_once_and_keeps_it() -> None:
    world = AbWorld(rules())
    assert (world.state.weight, world.state.step) == (5000, 1)
    world.thumbs(40, 4, 40, 4)
    world.thumbs(400, 40, 400, 40)
    assert (world.state.phase, world.state.weight) == ("progressing", 5000)
    assert "the A/B test is undecided: thumbs_down (better is lower): candidate 44 of 440 (10.0%)" in world.state.reason


def test_the_better_candidate_is_promoted() -> None:
    world = AbWorld(rules())
    world.thumbs(500, 100, 500, 10)
    world.thumbs(500, 100, 500, 10)
    assert world.state.phase == "promoting"
    [record] = [effect for effect in world.effects if isinstance(effect, Record)]
    assert (record.action, record.rule) == ("promote", "ab_test")
    assert record.reason.startswith("the A/B test favoured the candidate: thumbs_down")


def test_the_worse_candidate_is_rolled_back_and_it_says_that_stable_was_favoured() -> None:
    world = AbWorld(rules())
    world.thumbs(500, 10, 500, 100)
    world.thumbs(500, 10, 500, 100)
    assert (world.state.phase, world.state.ending, world.state.fired) == ("aborting", "rolled_back", "")
    assert Shift(0) in world.effects
    assert world.state.reason.startswith("the A/B test favoured stable: thumbs_down")


def test_neither_wins_before_its_time_and_requests() -> None:
    patient = rules(steps=[STEP.model_copy(update={"min_duration": timedelta(seconds=60)})])
    for bad_stable, bad in ((200, 10), (10, 200)):
        world = AbWorld(patient)
        world.thumbs(1000, bad_stable, 1000, bad)
        assert world.state.phase == "progressing"
        while world.state.step_seconds < 60:
            world.look()
        assert world.state.phase == ("promoting" if bad < bad_stable else "aborting")


def test_guardrails_protect_and_an_unsafe_winner_waits() -> None:
    world = AbWorld(rules())
    world.serve(1000, 1000, bad_stable=10, bad=300, metric="errors")
    world.look()
    assert (world.state.phase, world.state.fired) == ("aborting", "errors")
    tight = rules(guardrails=[Guardrail(metric="errors", tolerable_rate=0.0001)])
    world = AbWorld(tight)
    world.look()
    world.thumbs(500, 100, 500, 10)
    world.thumbs(500, 100, 500, 10)
    assert world.state.ab_test is not None
    assert world.state.ab_test.verdict == "candidate"
    assert (world.state.phase, "errors is undecided" in world.state.reason) == ("progressing", True)


def test_undecided_at_the_deadline_follows_the_policy() -> None:
    for choice, phase in (("pause", "paused"), ("rollback", "aborting"), ("extend", "progressing")):
        world = AbWorld(rules(on_insufficient_evidence=choice, deadline=timedelta(seconds=30)))
        world.thumbs(200, 20, 200, 20)
        world.look(31)
        assert world.state.phase == phase
        assert "undecided after 30 s" in world.state.reason


def test_copies_before_it_are_no_part_of_it() -> None:
    world = AbWorld(rules(shadow=ShadowStep(percent=100, min_duration=timedelta(seconds=10), min_requests=10)))
    assert (world.state.step, world.state.shadow, world.state.weight) == (1, 10_000, 0)
    while world.state.step == 1:
        world.serve(60, 60, bad_stable=0, bad=6, metric="thumbs_down")
        world.look()
    assert (world.state.phase, world.state.weight) == ("progressing", 5000)
    assert world.state.ab_test is not None
    world.look()
    assert world.state.ab_test.candidate == Counts()
    world.thumbs(500, 100, 500, 10)
    assert world.state.ab_test.candidate == Counts(bad=10, total=500)
    assert world.state.phase == "promoting"


def test_without_data_it_holds_and_says_so() -> None:
    world = AbWorld(rules())
    world.thumbs(500, 100, 500, 10)
    world.no_data = NoData("unreachable", "Prometheus cannot be reached")
    world.look()
    assert world.state.phase == "progressing"
    assert "no data for errors and thumbs_down because Prometheus cannot be reached" in world.state.reason
    assert world.state.ab_test is not None
    assert world.state.ab_test.candidate == Counts(bad=10, total=500)


def test_a_test_on_a_guarded_metric_reads_it_once() -> None:
    guarded = rules(guardrails=[Guardrail(metric="thumbs_down")])
    assert [counted.called for counted in counted_in(guarded)] == ["thumbs_down"]
    assert [counted.called for counted in counted_in(rules())] == ["errors", "thumbs_down"]


def test_higher_may_be_better_and_a_small_gain_may_not_be_worth_it() -> None:
    state = ObjectiveState(stable=Counts(bad=1000, total=10_000), candidate=Counts(bad=1300, total=10_000))
    for direction, least, expected in (
        ("higher", 0.0, "candidate"), ("lower", 0.0, "stable"), ("higher", 0.03, "undecided"),
        ("higher", 0.1, "stable"),
    ):
        test = AbTest.model_validate({"metric": "thumbs_down", "direction": direction, "min_effect": least})
        assert abtest.verdict(abtest.effect(state, test, 0.05), test) == expected


def test_a_decision_stores_counts_and_effect_beside_the_guardrails() -> None:
    world = AbWorld(rules())
    world.thumbs(500, 100, 500, 10)
    numbers = summary(world.state, world.policy)
    assert list(numbers) == ["A/B thumbs_down", "errors"]
    told = numbers["A/B thumbs_down"]
    assert (told["candidate_bad"], told["stable_bad"], told["verdict"]) == (10, 100, "candidate")
    assert told["effect"] == pytest.approx(0.18)
    assert 0 < float(told["effect_low"]) < 0.18 < float(told["effect_high"])


@pytest.mark.parametrize(("rollout", "message"), [
    ("{abTest: {metric: thumbs_down}}", "spec.rollout.steps: an A/B test has one fixed split; give exactly one step"),
    ("{steps: [{weight: 100}], abTest: {metric: thumbs_down}}", "spec.rollout.steps.0.weight: 100 leaves nobody"),
    ("{steps: [{weight: 50}], abTest: {metric: latency, sloSeconds: 3}}", "spec.rollout.abTest.sloSeconds: 3 is no"),
    ("{steps: [{weight: 50}], abTest: {metric: latency}}", "spec.rollout.abTest: sloSeconds is needed"),
    ("{steps: [{weight: 50}], abTest: {metric: thumbs_down, minEffect: -1}}", "spec.rollout.abTest.minEffect: Input"),
])
def test_an_ab_test_that_cannot_work_is_refused_with_the_remedy(rollout: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_pipeline(facts.PIPELINE.replace("{baseModel: tiny}", f"{{baseModel: tiny, rollout: {rollout}}}"))
    assert message in str(refused.value)
