"""What a rollout makes of the gateways' counts of units: harm by unit, what is done without, and the split's test."""

from dataclasses import replace

import pytest

from services.rollout.analysis import Bounds, Counts, Evidence, UnitLook
from services.rollout.counts import Reading
from services.rollout.decide import step
from services.rollout.samples import NoData, Sample
from services.rollout.state import UnitState
from services.rollout.unit_counts import (
    JUDGED,
    NEW,
    SERVED,
    UNNAMED,
    UnitReadings,
    can_count,
    counted,
    counted_events,
    readings_of,
)
from services.rollout.wanted import Record
from shared.events import CountedEvent
from shared.pipeline import Guardrail, RolloutPolicy
from tests.support.rollouts import CANDIDATE, OUTAGE, STABLE, World, policy

ROLES = {"stable": STABLE, "candidate": CANDIDATE}


def world_of(**guardrail: object) -> World:
    world = World(policy(guardrails=[Guardrail.model_validate({"metric": "errors", "hardLimit": None, **guardrail})]))
    world.to_step(1)
    return world


def from_one_user(world: World, requests: int, event: str = "errors", **judged: int) -> None:
    """Bad requests of the candidate, all of one user: its units grow by one.

    Args:
        judged: units whose answers were judged, of either version; nobody who was judged is known without.
    """
    world.serve(4 * requests, requests, bad=requests)
    seen = world.observation()
    assert isinstance(seen.units, UnitReadings)
    world.clock.advance(5)
    units = UnitReadings(seen.units.counters, {
        (STABLE, SERVED): 80, (CANDIDATE, SERVED): 20, (CANDIDATE, f"{event} x1"): 1,
        **{(version, JUDGED): judged[name] for name, version in ROLES.items() if name in judged},
    })
    world.state, world.effects = step(world.state, replace(seen, units=units), world.now, world.policy)


def test_one_user_with_many_errors_is_one_user() -> None:
    world = world_of(tolerableRate=0.9)
    from_one_user(world, 30)
    evidence = world.state.guardrails["errors"].evidence
    assert (evidence.counted_by, world.state.phase) == ("unit", "progressing")
    assert (evidence.candidate.bad, evidence.candidate_units.bad) == (30, 1)
    assert evidence.e_harm < 5
    assert evidence.clumping > 5


def test_one_user_who_judges_everything_badly_is_one_of_those_who_judge() -> None:
    world = world_of(metric="thumbs_down", tolerableRate=0.9)
    from_one_user(world, 30, "thumbs_down", stable=12, candidate=3)
    evidence = world.state.guardrails["thumbs_down"].evidence
    assert (evidence.counted_by, world.state.phase) == ("unit", "progressing")
    assert evidence.e_harm < 5
    assert (evidence.candidate_units, evidence.stable_units) == (Counts(bad=1, total=3), Counts(bad=0, total=12))
    assert "users with a bad one: candidate 1 of 3, stable 0 of 12" in world.state.reason


def test_judgements_of_gateways_that_do_not_tell_whose_are_taken_look_by_look() -> None:
    """Those of an earlier release; or the rollout began under it, and nobody was asked."""
    world = world_of(metric="thumbs_down", tolerableRate=0.9)
    from_one_user(world, 30, "thumbs_down")
    assert world.state.guardrails["thumbs_down"].evidence.counted_by == "interval"
    must = world_of(metric="thumbs_down", tolerableRate=0.9, countBy="unit")
    from_one_user(must, 30, "thumbs_down")
    assert must.state.guardrails["thumbs_down"].evidence.counted_by == "unit"


def test_by_request_they_are_thirty_errors() -> None:
    world = world_of(countBy="request")
    from_one_user(world, 30)
    assert world.state.phase == "aborting"
    assert "users with a bad one" not in world.state.reason


def test_without_counts_of_units_each_look_is_one_observation() -> None:
    world = World(policy(guardrails=[Guardrail(metric="errors", hard_limit=None)]))
    world.counts_units = False
    world.to_step(1)
    world.serve(80, 20, bad=20)
    world.look()
    evidence = world.state.guardrails["errors"].evidence
    assert evidence.counted_by == "interval"
    assert world.state.phase == "progressing"
    assert 1 < evidence.e_harm < 5
    for _ in range(3):
        world.serve(80, 20, bad=20)
        world.look()
    assert world.state.fired == "errors"


def test_what_must_be_counted_by_unit_and_cannot_be_is_no_data() -> None:
    world = World(policy(guardrails=[Guardrail(metric="errors", count_by="unit")]))
    world.counts_units = False
    world.look()
    assert world.state.blind == {"errors": "it is counted by unit, and the counts of units were not read"}


def test_counts_of_units_that_fail_are_no_data_and_are_caught_up_with() -> None:
    world = world_of()
    world.serve(40, 10, bad=5)
    seen = replace(world.observation(), units=OUTAGE)
    state, _ = step(world.state, seen, world.now, world.policy)
    assert state.blind == {"errors": OUTAGE.reason}
    assert state.guardrails["errors"].verdict == "no_data"
    world.state = state
    world.look()
    assert world.state.guardrails["errors"].evidence.candidate_units.bad == 5


def test_old_gateways_without_counts_are_no_fault() -> None:
    world = World(policy(guardrails=[Guardrail(metric="errors")]))
    seen = replace(world.observation(), units=UnitReadings())
    state, _ = step(world.state, seen, world.now, world.policy)
    assert (state.blind, state.users) == ({}, None)


@pytest.mark.parametrize("gateways", [["gw"], ["gw", "gw-2", "gw-3"]])
def test_several_gateways_and_their_restarts_take_nothing_from_the_evidence(gateways: list[str]) -> None:
    world = world_of()
    world.gateways = gateways
    world.serve(80, 20, bad_stable=1, bad=4)
    world.look()
    world.restart_gateway()
    world.serve(80, 20, bad_stable=1, bad=3)
    world.look()
    evidence = world.state.guardrails["errors"].evidence
    assert (evidence.stable_units.bad, evidence.candidate_units.bad) == (2, 7)
    expected = Evidence(counted_by="unit").updated(
        Counts(), Counts(), Bounds(margin=2, tolerable=0.05), odds=0.25,
        units=UnitLook(stable=(2, 0, 0), candidate=(7, 0, 0), stable_seen=0, candidate_seen=0),
    )
    assert evidence.e_harm == pytest.approx(expected.e_harm)


# --- The split --------------------------------------------------------------------------------------------------------


def deal(world: World, looks: int, stable: int, candidate: int) -> str:
    """New units at each look; the phase after the last."""
    for _ in range(looks):
        world.new_units = {STABLE: world.new_units[STABLE] + stable, CANDIDATE: world.new_units[CANDIDATE] + candidate}
        world.look()
    return world.state.phase


def test_a_split_that_is_not_as_meant_pauses_the_rollout() -> None:
    world = world_of()
    assert deal(world, 30, 57, 3) == "paused"
    assert world.state.paused_in == "progressing"
    assert [effect.rule for effect in world.effects if isinstance(effect, Record)] in (["sample_ratio"], ["paused"])
    assert "m@2 had" in world.state.reason
    assert "mismatch at 1000" in world.state.reason


def test_a_person_who_resumes_it_begins_the_test_anew() -> None:
    world = world_of()
    assert deal(world, 30, 57, 3) == "paused"
    world.look(command=world.command("resume"))
    assert deal(world, 3, 48, 12) == "progressing"
    assert deal(world, 30, 57, 3) == "paused"


def test_a_right_split_is_left_alone_and_its_first_looks_are_left_out() -> None:
    world = world_of()
    deal(world, 2, 60, 0)  # the gateways have not heard of the new weight yet
    assert world.state.units.split.log == 0
    assert deal(world, 30, 48, 12) == "progressing"
    assert world.state.units.split.seen[CANDIDATE] >= 300


def test_what_an_earlier_release_stored_of_gateways_is_left_out() -> None:
    assert UnitState.model_validate({"restarts": 2, "split": {"log": 1.5, "lives": 3}}).split.log == 1.5


# --- Reading ----------------------------------------------------------------------------------------------------------


def sample(value: float, **labels: str) -> Sample:
    known = {"job": "gw", "instance": "a", "route": "m", "model_version": CANDIDATE}
    return Sample(labels={**known, **labels}, value=value, at=0.0)


def test_gateways_are_asked_to_tell_of_what_the_policy_needs() -> None:
    rules = RolloutPolicy.model_validate({"guardrails": [
        {"metric": "errors"}, {"metric": "latency", "sloSeconds": 2.5}, {"metric": "refusals"},
        {"metric": "thumbs_down"}, {"metric": "time_to_first_token", "sloSeconds": 0.5, "countBy": "request"},
    ], "objectives": [{"metric": "errors", "margin": 0.1}, {"metric": "invalid_output"}]})
    assert counted_events(rules) == [
        CountedEvent(event="served"), CountedEvent(event="errors"), CountedEvent(event="latency", seconds=2.5),
        CountedEvent(event="refusals"), CountedEvent(event="thumbs_down"), CountedEvent(event="invalid_output"),
        CountedEvent(event="judged"),
    ]
    assert [can_count(guardrail) for guardrail in rules.guardrails] == [True, True, True, True, False]


def test_samples_become_counters_by_version() -> None:
    found = readings_of([sample(3, event="unnamed", times="1")], {(CANDIDATE, "errors x1"): 2})
    assert isinstance(found, UnitReadings)
    assert [(reading.cell, reading.value) for reading in found.counters] == [(UNNAMED, 3)]
    assert found.met == {(CANDIDATE, "errors x1"): 2}


def test_requests_that_name_nobody_are_added_up_over_gateways_and_their_restarts() -> None:
    def counters(first: int, second: int) -> UnitReadings:
        return UnitReadings(tuple(
            Reading(target=target, version=CANDIDATE, cell=UNNAMED, value=value, bad=0, total=1)
            for target, value in (("a", first), ("b", second))
        ), {(CANDIDATE, SERVED): 5, (CANDIDATE, NEW): 4})

    state, _ = counted(UnitState(), counters(100, 0))
    state, first = counted(state, counters(110, 7))
    _, second = counted(state, counters(2, 7))
    assert [(counts.new[CANDIDATE], counts.served[CANDIDATE]) for counts in (first, second)] == [(17, 22), (2, 24)]


@pytest.mark.parametrize(("bad", "kind"), [
    (sample(float("nan"), event="unnamed", times="1"), "invalid"), (sample(-1, event="unnamed", times="1"), "invalid"),
    (Sample({"job": "gw", "instance": "a"}, 1.0, 0.0), "malformed"),
])
def test_what_is_no_count_is_no_data(bad: Sample, kind: str) -> None:
    found = readings_of([bad], {})
    assert isinstance(found, NoData)
    assert found.kind == kind


def test_a_policy_that_counts_by_unit_what_has_none_is_refused() -> None:
    with pytest.raises(ValueError, match="gateways do not count users by promql; use auto or request"):
        Guardrail(metric="promql", name="toxic", bad='a{m="$version"}', total='b{m="$version"}', count_by="unit")
