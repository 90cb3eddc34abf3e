"""The reducer by example: what each phase waits for, what ends it, and what it says."""

from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest

from services.rollout.analysis import Counts
from services.rollout.decide import step
from services.rollout.observation import Loading, Verb
from services.rollout.samples import NoData
from services.rollout.state import FULL_WEIGHT
from services.rollout.wanted import Announce, Answer, LeaveRoute, MakeStable, Record, Shift, TakeRoute
from shared.pipeline import Guardrail
from tests.support.rollouts import CANDIDATE, LOADED, OUTAGE, STABLE, World, policy


def shifts(world: World) -> list[int]:
    return [effect.weight for effect in world.effects if isinstance(effect, Shift)]


def rules(world: World) -> list[tuple[str, str]]:
    return [(effect.action, effect.rule) for effect in world.effects if isinstance(effect, Record)]


# --- The good way -----------------------------------------------------------------------------------------------------


def test_a_good_candidate_goes_through_every_phase() -> None:
    world = World()
    assert world.look()[0] == TakeRoute()
    assert (world.state.phase, world.state.weight) == ("staging", 0)
    world.loading = LOADED
    assert Shift(2000) in world.look()
    assert (world.state.phase, world.state.step) == ("progressing", 1)
    weights = []
    while world.state.phase == "progressing":
        world.serve(40, 10)
        world.look()
        weights += shifts(world)
    assert weights == [5000, FULL_WEIGHT]
    assert world.look(1.0) == []
    assert world.look(2.0) == [MakeStable(), Announce()]
    assert world.state.phase == "promoted"
    assert world.next_look is None


def test_it_waits_for_its_route() -> None:
    world = World()
    world.route_free = False
    world.loading = LOADED
    assert world.look() == []
    assert (world.state.phase, world.state.started_at) == ("staging", None)
    world.route_free = True
    assert TakeRoute() in world.look()


def test_a_step_needs_its_time_and_its_requests() -> None:
    world = World()
    world.to_step(1)
    world.serve(400, 100)
    world.look(1.0)
    assert world.state.step == 1
    assert world.state.reason == "step 1 of 2 at 20 %: 1 of 10 s watched"
    world.look(9.0)
    assert world.state.step == 2
    world.look(9.0)
    world.look(2.0)
    assert world.state.reason == "step 2 of 2 at 50 %: 0 of 10 requests"


def test_undecided_evidence_holds_and_says_the_numbers() -> None:
    world = World()
    world.to_step(1)
    world.serve(80, 20)
    world.look(10)
    assert world.state.step == 1
    users = "users with a bad one: candidate 0 of 20, stable 0 of 80"
    numbers = f"candidate 0 bad of 20, stable 0 of 80; {users}, e-value 3.65, safe at 20"
    assert f"errors is undecided: {numbers}" in world.state.reason
    assert rules(world) == [("hold", "evidence")]


# --- Staging ----------------------------------------------------------------------------------------------------------


def test_staging_waits_for_every_replica() -> None:
    world = World()
    world.look()
    world.loading = Loading(loaded=1, waiting=("gpu-1",))
    world.look()
    assert world.state.reason == "1 replicas have loaded the candidate; waiting for gpu-1"
    assert world.state.weight == 0


def test_no_replica_at_all_is_not_every_replica() -> None:
    world = World()
    world.loading = Loading()
    for _ in range(3):
        world.look()
    assert world.state.phase == "staging"


def test_a_permanent_failure_to_load_ends_it() -> None:
    world = World()
    world.look()
    world.loading = Loading(failure="replica gpu-0 cannot load it: rank 64 is over 16")
    world.look()
    assert (world.state.phase, rules(world)) == ("aborting", [("rollback", "load")])
    world.look()
    assert world.state.phase == "rolled_back"
    assert world.state.seconds_exposed is None


def test_the_load_deadline_ends_it() -> None:
    world = World()
    world.look()
    world.look(121)
    assert (world.state.phase, rules(world)) == ("aborting", [("rollback", "load_deadline")])
    assert "gpu-0, gpu-1" in world.state.reason


def test_an_adapter_for_another_base_ends_it() -> None:
    world = World()
    world.misfit = "the adapter was trained on x, but the route m serves y"
    world.look()
    assert world.state.phase == "aborting"


# --- Harm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paused", [False, True], ids=["progressing", "paused"])
def test_harm_takes_all_weight_at_once(paused: bool) -> None:
    world = World(policy(guardrails=[Guardrail(metric="errors", hard_limit=None)]))
    world.to_step(2)
    if paused:
        world.look(command=world.command("pause"))
        assert world.state.phase == "paused"
    world.serve(60, 60, bad_stable=1, bad=12)
    world.look()
    assert (world.state.phase, shifts(world), world.state.fired) == ("aborting", [0], "errors")
    assert rules(world) == [("rollback", "e_harm")]
    assert "candidate 12 bad of" in world.state.reason
    assert "rollback at 20" in world.state.reason
    assert world.look(2.0) == [LeaveRoute(), Announce()]
    assert (world.state.phase, world.state.users) == ("rolled_back", world.served[CANDIDATE])
    assert world.state.seconds_exposed is not None


def test_alpha_is_shared_by_the_guardrails() -> None:
    world = World()
    world.to_step(1)
    world.serve(100, 20, bad_stable=1, bad=8, metric="latency")
    world.look()
    assert world.state.fired == "latency>1s"
    assert "rollback at 40" in world.state.reason


def test_the_hard_limit_needs_no_proof() -> None:
    guardrail = Guardrail(metric="errors", hard_limit=0.5, hard_limit_requests=20)
    world = World(policy(guardrails=[guardrail], alpha=1e-12))
    world.to_step(1)
    world.serve(20, 19, bad_stable=15, bad=15)
    world.look()
    assert world.state.phase == "progressing"
    world.serve(0, 1)
    world.look()
    assert (world.state.phase, rules(world)) == ("aborting", [("rollback", "hard_limit")])
    assert "15 of 20 requests in this step were bad, the hard limit is 50%" in world.state.reason


def test_one_blind_guardrail_does_not_hide_the_other() -> None:
    world = World()
    world.to_step(1)
    world.serve(100, 20, bad_stable=1, bad=8, metric="errors")
    seen = world.observation()
    readings = {**seen.readings, "latency>1s": OUTAGE}
    state, _ = step(world.state, replace(seen, readings=readings), world.now, world.policy)
    assert (state.phase, state.fired) == ("aborting", "errors")


# --- No data ----------------------------------------------------------------------------------------------------------


def test_without_data_it_holds_and_says_so_and_no_time_is_counted() -> None:
    world = World()
    world.to_step(1)
    world.serve(400, 100)
    world.no_data = OUTAGE
    for _ in range(20):
        world.look()
    assert (world.state.phase, world.state.step, world.state.step_seconds) == ("progressing", 1, 0.0)
    assert "no data for errors and latency>1s because Prometheus cannot be reached" in world.state.reason
    assert rules(world) == [("hold", "no_data")]
    world.no_data = None
    world.look()
    assert world.state.guardrails["errors"].evidence.candidate.total == 100
    assert world.state.step_seconds == 5.0


def test_a_controller_that_was_away_has_not_watched() -> None:
    world = World()
    world.to_step(1)
    world.look(3600)
    assert world.state.step_seconds == 10.0


def test_a_gateway_that_restarts_loses_nothing_that_was_counted() -> None:
    world = World()
    world.to_step(1)
    world.serve(40, 10)
    world.look()
    world.restart_gateway()
    world.serve(4, 3)
    world.look()
    assert world.state.guardrails["errors"].evidence.candidate.total == 13


@pytest.mark.parametrize(
    ("choice", "phase", "action"),
    [("extend", "progressing", "extend"), ("pause", "paused", "pause"), ("rollback", "aborting", "rollback")],
)
def test_at_the_deadline_the_policy_decides(
    choice: Literal["extend", "pause", "rollback"], phase: str, action: str
) -> None:
    world = World(policy(on_insufficient_evidence=choice))
    world.to_step(1)
    world.no_data = OUTAGE
    world.look(601)
    assert world.state.phase == phase
    assert rules(world) == [(action, "deadline")]
    assert "undecided after 600 s (no data" in world.state.reason
    if choice == "extend":
        assert world.state.deadline_at == world.now + timedelta(seconds=600)


# --- People and successors --------------------------------------------------------------------------------------------


def test_pause_holds_and_resume_goes_on_with_the_evidence() -> None:
    world = World()
    world.to_step(1)
    world.look(command=world.command("pause", "lunch"))
    assert (world.state.phase, world.state.reason) == ("paused", "paused by a person: lunch")
    for _ in range(10):
        world.serve(40, 10)
        world.look()
        assert shifts(world) == []
    assert world.state.weight == 2000
    world.look(command=world.command("resume"))
    assert world.state.phase == "progressing"
    assert world.state.guardrails["errors"].evidence.candidate.total == 100
    world.look(10)
    assert world.state.step == 2


def test_a_full_promotion_by_a_person_skips_the_steps() -> None:
    world = World()
    world.to_step(1)
    assert Answer(1) in world.look(command=world.command("promote", "I know it", by="ada", full=True))
    assert (world.state.phase, shifts(world)) == ("promoting", [FULL_WEIGHT])
    assert world.state.reason == "promoted by ada: I know it"
    assert Record("promote", "person", "promoted by ada: I know it", by="ada") in world.effects


@pytest.mark.parametrize("paused", [False, True])
def test_a_promotion_by_a_person_goes_to_the_next_step(paused: bool) -> None:
    world = World()
    world.to_step(1)
    if paused:
        world.look(command=world.command("pause"))
    for phase, step_, weight in (("progressing", 2, 5000), ("promoting", 2, FULL_WEIGHT)):
        world.look(command=world.command("promote", by="ada"))
        assert (world.state.phase, world.state.step, shifts(world)) == (phase, step_, [weight])
    assert world.state.paused_in is None


def test_a_promotion_of_what_is_loaded_begins_with_the_first_step() -> None:
    world = World()
    world.look()
    world.look(command=world.command("pause"))
    world.loading = LOADED
    world.look(command=world.command("promote"))
    assert (world.state.phase, world.state.step, shifts(world)) == ("progressing", 1, [2000])


def test_inside_the_rollback_window_it_is_promoted_as_soon_as_it_is_loaded() -> None:
    world = World()
    world.state = world.state.model_copy(update={"direct": True})
    world.look()
    world.look()
    assert shifts(world) == []
    world.loading, world.no_data = LOADED, OUTAGE
    world.look()
    assert (world.state.phase, shifts(world)) == ("promoting", [FULL_WEIGHT])
    assert rules(world) == [("promote", "rollback_window")]


@pytest.mark.parametrize("phase", ["staging", "progressing", "paused", "waiting"])
def test_a_newer_version_supersedes_it_from_every_phase(phase: str) -> None:
    world = World()
    if phase in ("progressing", "paused"):
        world.to_step(1)
    elif phase == "staging":
        world.look()
    else:
        world.route_free = False
    if phase == "paused":
        world.look(command=world.command("pause"))
    world.successor = "m@3"
    world.look()
    assert (world.state.phase, world.state.weight, shifts(world)) == ("aborting", 0, [0])
    world.look()
    assert (world.state.phase, world.state.reason) == ("superseded", "superseded by m@3")


def test_promote_is_refused_until_it_is_loaded() -> None:
    world = World()
    world.look()
    world.look(command=world.command("promote"))
    assert world.effects[0] == Answer(1, refused="not every replica has loaded it; waiting for gpu-0, gpu-1")


@pytest.mark.parametrize("verb", ["resume", "pause"])
def test_a_command_that_does_not_fit_is_refused_with_why(verb: Verb) -> None:
    world = World()
    world.to_step(1)
    if verb == "pause":
        world.look(command=world.command("promote", full=True))
    world.look(0.1, command=world.command(verb))
    answers = [effect for effect in world.effects if isinstance(effect, Answer)]
    assert answers[0].refused.startswith("it is not paused" if verb == "resume" else "it cannot be paused")


def test_a_newer_version_supersedes_it_after_weight_zero() -> None:
    world = World()
    world.to_step(2)
    world.successor = "m@3"
    world.look()
    assert (world.state.phase, shifts(world)) == ("aborting", [0])
    assert world.look() == [LeaveRoute(), Announce()]
    assert (world.state.phase, world.state.reason) == ("superseded", "superseded by m@3")


def test_a_promotion_that_has_begun_is_not_superseded() -> None:
    world = World()
    world.to_step(1)
    world.look(command=world.command("promote", full=True))
    world.successor = "m@3"
    world.look()
    assert world.state.phase == "promoted"


def test_what_the_candidate_s_series_begin_with_counts_where_its_gateways_were_known() -> None:
    """Prometheus may first scrape the candidate after it has had traffic: staging is short, and scrapes are rare."""
    world = World(policy(guardrails=[Guardrail(metric="errors", tolerable_rate=0.1)]))
    seen = world.observation().readings["errors"]
    assert not isinstance(seen, NoData)
    of_stable = tuple(reading for reading in seen if reading.version == STABLE)
    world.no_data = NoData("no_candidate", "there are no fresh samples of it", others=of_stable)
    world.counts_units = False
    world.look()
    world.loading = LOADED
    world.look()
    assert (world.state.step, world.state.guardrails["errors"].in_step.total) == (1, 0)
    world.no_data = None
    world.serve(60, 20, bad=20)
    world.look()
    assert world.state.guardrails["errors"].in_step == Counts(bad=20, total=20)
    assert world.state.phase == "aborting", "the hard limit fires at the first scrape that shows it"
