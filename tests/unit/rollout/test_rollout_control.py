"""The control arm in the reducer: who is compared with whom, what the arms get, and when the control goes."""

from datetime import timedelta

import numpy as np
import pytest

from services.rollout.analysis import Counts
from services.rollout.state import FULL_WEIGHT
from services.rollout.wanted import Record, Shift, TakeRoute
from shared.pipeline import RolloutStep, ShadowStep
from tests.support.rollouts import CANDIDATE, CONTROL, LOADED, STABLE, World, policy

SHORT = {"min_duration": timedelta(seconds=10), "min_requests": 10}


def controlled(**changes: object) -> World:
    return World(policy(control=True, **changes))


def test_candidate_and_control_get_the_same_until_the_end() -> None:
    world = controlled()
    assert world.look()[0] == TakeRoute(control=True)
    world.loading = LOADED
    assert Shift(2000, control=2000) in world.look()
    shifts = []
    while world.state.phase == "progressing":
        world.serve(60, 20, control=20)
        world.look()
        shifts += [effect for effect in world.effects if isinstance(effect, Shift)]
    assert shifts == [Shift(5000, control=5000), Shift(FULL_WEIGHT)]
    assert (world.state.phase, world.state.control) == ("promoting", 0)


def test_an_abort_takes_the_control_too() -> None:
    world = controlled()
    world.to_step(1)
    assert (world.state.weight, world.state.control) == (2000, 2000)
    assert Shift(0) in world.look(command=world.command("abort"))
    assert (world.state.weight, world.state.control) == (0, 0)


def test_it_is_compared_with_the_control_and_not_with_stable() -> None:
    """A cold start that is bad for both is no harm; what stable shows meanwhile plays no part."""
    world = controlled()
    world.to_step(1)
    for _ in range(4):
        world.serve(600, 60, bad=6, control=60, bad_control=6)
        world.look()
    assert world.state.phase == "progressing"
    seen = world.state.guardrails["errors"].evidence
    assert (seen.stable, seen.candidate) == (Counts(bad=24, total=240), Counts(bad=24, total=240))
    assert "candidate 24 bad of 240, control 24 of 240" in world.state.reason

    same = World(policy())
    same.to_step(1)
    for _ in range(4):
        same.serve(600, 60, bad=6)
        same.look()
    assert same.state.phase in ("aborting", "rolled_back"), "the same against all of stable is harm"


def test_harm_against_the_control_rolls_back_and_says_the_numbers() -> None:
    world = controlled()
    world.to_step(1)
    while world.state.phase == "progressing":
        world.serve(60, 20, bad=8, control=20)
        world.look()
    assert world.state.phase == "aborting"
    [record] = [effect for effect in world.effects if isinstance(effect, Record)]
    assert (record.action, record.rule) == ("rollback", "e_harm")
    assert "control 0 of" in record.reason


def test_the_split_is_tested_over_three_arms() -> None:
    world = controlled(guardrails=[*policy().guardrails], deadline=timedelta(hours=10))
    world.to_step(1)
    world.look(20)
    random = np.random.default_rng(1)
    for _ in range(20):
        for version, units in zip((STABLE, CANDIDATE, CONTROL), random.multinomial(100, [0.6, 0.2, 0.2]), strict=True):
            world.new_units[version] += int(units)
        world.look()
    split = world.state.units.split
    assert set(split.seen) == {STABLE, CANDIDATE, CONTROL}
    assert not split.mismatched
    for _ in range(20):
        world.new_units[STABLE] += 80
        world.new_units[CANDIDATE] += 20
        world.look()
    assert (world.state.phase, world.state.weight, world.state.control) == ("paused", 2000, 2000)
    assert f"{CONTROL} had" in world.state.reason


def test_copies_go_to_both_and_are_no_traffic() -> None:
    world = controlled(shadow=ShadowStep(percent=30, **SHORT), steps=[RolloutStep(weight=20, **SHORT)])
    world.to_step(1)
    assert Shift(0, 3000) in world.effects
    assert world.state.control == 0
    while world.state.step == 1:
        world.serve(100, 30, control=30)
        world.look()
    assert Shift(2000, control=2000) in world.effects


@pytest.mark.parametrize("kind", ["good", "bad"])
def test_a_version_inside_the_rollback_window_needs_no_control(kind: str) -> None:
    world = controlled()
    world.state = world.state.model_copy(update={"direct": True})
    assert world.look()[0] == TakeRoute(control=False)
    world.loading = LOADED
    if kind == "good":
        assert Shift(FULL_WEIGHT) in world.look()
    else:
        assert Shift(0) in world.look(command=world.command("abort"))
