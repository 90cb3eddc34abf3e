"""Webhooks in the reducer: who holds, who ends, who is asked again, and that nobody is asked too often."""

from dataclasses import replace

import pytest

from services.rollout.decide import step
from services.rollout.hook_state import Ask, HookAnswer
from services.rollout.wanted import Announce, Record, Shift, TakeRoute
from shared.pipeline import RolloutPolicy
from shared.webhooks import Webhook, WebhookType
from tests.support.rollouts import LOADED, OUTAGE, World, policy


def hooked(*types: WebhookType, **changes: object) -> RolloutPolicy:
    """A policy with a webhook of each type, which is called as its type is."""
    return policy(webhooks=[Webhook(name=type_, type=type_, url="http://ci.test/") for type_ in types], **changes)


def asks(world: World) -> list[str]:
    return [effect.webhook for effect in world.effects if isinstance(effect, Ask)]


def good_look(world: World, seconds: float = 5.0) -> None:
    """Traffic without a fault, and a look."""
    world.serve(60, 20)
    world.look(seconds)


def test_confirm_rollout_comes_before_the_route_and_before_loading() -> None:
    world = World(hooked("confirm-rollout"))
    world.route_free = False
    world.look()
    assert asks(world) == [], "another rollout holds the route: there is nothing to confirm yet"
    world.route_free = True
    world.look()
    assert asks(world) == ["confirm-rollout"]
    assert not any(isinstance(effect, TakeRoute) for effect in world.effects)
    assert world.state.reason == "waiting for the webhook confirm-rollout (confirm-rollout): it has not answered yet"
    world.webhooks["confirm-rollout"] = False
    for _ in range(500):  # patience has no end
        world.look()
        assert (world.state.phase, world.state.started_at) == ("staging", None)
    world.webhooks["confirm-rollout"] = True
    world.look()
    assert any(isinstance(effect, TakeRoute) for effect in world.effects)


@pytest.mark.parametrize(("type_", "weight"), [
    ("pre-rollout", 0), ("confirm-traffic-increase", 0), ("confirm-promotion", 5000), ("rollout", 2000),
])
def test_what_never_answers_holds_at_its_point(type_: WebhookType, weight: int) -> None:
    world = World(hooked(type_))
    world.look()
    world.loading = LOADED
    for _ in range(100):
        good_look(world)
    assert world.state.weight == weight
    assert "has not answered" in world.state.reason
    phases = [world.state.phase]
    world.webhooks[type_] = True
    while phases[-1] in ("staging", "progressing"):
        good_look(world)
        phases.append(world.state.phase)
    assert (phases[0], phases[-1]) == ("staging" if weight == 0 else "progressing", "promoting")


@pytest.mark.parametrize("type_", ["confirm-rollout", "confirm-traffic-increase", "confirm-promotion"])
def test_a_confirmation_is_asked_for_once_an_interval_and_refusals_are_told_once(type_: WebhookType) -> None:
    world = World(hooked(type_))
    world.webhooks[type_] = False
    world.look()
    world.loading = LOADED
    while not asks(world):
        good_look(world)
    told, asked = 0, 0
    for _ in range(50):  # each answer wakes the rollout, so that it looks far more often
        good_look(world, seconds=1.0)
        asked += len(asks(world))
        told += sum(isinstance(effect, Announce) for effect in world.effects)
    assert 9 <= asked <= 10
    assert told == 1
    assert world.state.reason == f"waiting for the webhook {type_} ({type_}): no"


def test_harm_still_rolls_back_while_a_confirmation_is_awaited() -> None:
    world = World(hooked("confirm-promotion"))
    world.to_step(2)
    while not asks(world):
        good_look(world)
    world.serve(60, 60, bad=60)
    world.look()
    assert world.state.phase == "aborting"
    assert Shift(0) in world.effects


def test_a_confirmation_does_not_outlive_the_evidence_that_it_was_asked_for() -> None:
    world = World(hooked("confirm-promotion"))
    world.to_step(2)
    while not asks(world):
        good_look(world)
    world.webhooks["confirm-promotion"] = True
    world.no_data = OUTAGE  # in the moment of the answer
    world.look()
    assert world.state.phase == "progressing"
    assert not world.state.hooks["confirm-promotion"].passed
    world.webhooks, world.no_data = {}, None
    for _ in range(5):
        good_look(world)
    assert world.state.phase == "progressing"
    assert world.state.hooks["confirm-promotion"].pending, "it is asked again"


def test_an_answer_to_an_earlier_question_changes_nothing() -> None:
    world = World(hooked("confirm-traffic-increase"))
    world.look()
    world.loading = LOADED
    world.look()
    first = world.state.hooks["confirm-traffic-increase"].call
    world.look(command=world.command("promote"))
    while not asks(world):
        good_look(world)
    mine = world.state.hooks["confirm-traffic-increase"]
    assert (mine.point, mine.call) == ("step 2", first + 1)
    late = {"confirm-traffic-increase": HookAnswer(call=first, passed=True, said="yes")}
    after, _ = step(world.state, replace(world.observation(), answers=late), world.now, world.policy)
    assert (after.step, after.hooks["confirm-traffic-increase"]) == (1, mine)


@pytest.mark.parametrize(("type_", "at"), [("pre-rollout", 0), ("rollout", 1)])
def test_failures_in_a_row_roll_back_at_the_threshold(type_: WebhookType, at: int) -> None:
    world = World(hooked(type_))
    world.webhooks[type_] = False
    world.look()
    world.loading = LOADED
    looks = 0
    while world.state.phase in ("staging", "progressing"):
        assert world.state.step <= at
        good_look(world)
        looks += 1
    assert world.state.phase == "aborting"
    assert world.state.reason == f"the webhook {type_} ({type_}) failed 3 of 3 times in a row: no"
    assert [(each.action, each.rule) for each in world.effects if isinstance(each, Record)] == [("rollback", "webhook")]
    assert 3 <= looks <= 5


def test_failures_that_are_not_in_a_row_end_nothing_but_the_last_one_holds() -> None:
    world = World(hooked("rollout"))
    world.webhooks["rollout"] = True
    world.to_step(1)
    for answer in [False, False, True] * 10:
        world.webhooks["rollout"] = answer
        world.look()
    assert (world.state.phase, world.state.step, world.state.hooks["rollout"].failures) == ("progressing", 1, 0)
    world.webhooks["rollout"] = False
    good_look(world)
    good_look(world)
    assert (world.state.step, world.state.guardrails["errors"].verdict) == (1, "safe")
    assert "the webhook rollout (rollout) failed 2 of 3 times in a row: no" in world.state.reason
    world.webhooks["rollout"] = True
    good_look(world)
    assert world.state.step == 2


def test_each_step_needs_an_answer_of_its_own() -> None:
    world = World(hooked("rollout"))
    world.webhooks["rollout"] = True
    world.to_step(2)
    assert asks(world) == ["rollout"], "asked in the moment that the step begins"
    world.webhooks = {}
    for _ in range(20):
        good_look(world)
    assert world.state.phase == "progressing"
    assert "the webhook rollout has not answered in this step yet" in world.state.reason


@pytest.mark.parametrize("phase", ["confirming", "staging", "progressing", "paused"])
def test_a_rollback_webhook_ends_it_from_every_phase_that_has_not_ended(phase: str) -> None:
    world = World(hooked("confirm-rollout", "rollback"))
    world.webhooks = {"rollback": False}
    world.look()
    if phase != "confirming":
        world.webhooks["confirm-rollout"] = True
        world.look()
    if phase in ("progressing", "paused"):
        world.loading = LOADED
        world.look()
    if phase == "paused":
        world.look(command=world.command("pause"))
    for _ in range(3):
        world.look()
    assert world.state.phase == ("staging" if phase == "confirming" else phase)
    world.webhooks["rollback"] = True
    world.look()
    assert (world.state.phase, world.state.weight) == ("aborting", 0)
    assert world.state.reason == "the webhook rollback asked for a rollback: yes"


def test_a_person_who_promotes_does_not_wait_for_webhooks() -> None:
    world = World(hooked("pre-rollout", "confirm-traffic-increase", "rollout", "confirm-promotion"))
    world.look()
    world.loading = LOADED
    world.look()
    for weight in (2000, 5000, 10_000):
        world.look(command=world.command("promote"))
        assert world.state.weight == weight


def test_an_undo_inside_the_rollback_window_waits_for_no_webhook() -> None:
    world = World(hooked("confirm-rollout", "pre-rollout", "confirm-traffic-increase", "confirm-promotion"))
    world.state = world.state.model_copy(update={"direct": True})
    world.look()
    world.loading = LOADED
    world.look()
    assert world.state.phase == "promoting"
    assert world.state.hooks == {}


def test_copies_are_no_traffic_to_confirm() -> None:
    shadow = {"percent": 50, "minDuration": "10s", "minRequests": 10}
    world = World(hooked("confirm-traffic-increase", shadow=shadow))
    world.look()
    world.loading = LOADED
    world.look()
    assert (world.state.shadow, asks(world)) == (5000, [])
    while not asks(world):
        good_look(world)
    assert (world.state.step, world.state.weight) == (1, 0)


def test_waiting_for_a_webhook_is_no_late_load() -> None:
    world = World(hooked("pre-rollout"))
    world.look()
    world.loading = LOADED
    for _ in range(100):
        world.look(60)
    world.loading = type(LOADED)(waiting=("gpu-0",), loaded=1)  # a replica began anew
    world.look()
    assert world.state.phase == "staging"


@pytest.mark.parametrize("type_", ["post-rollout", "event"])
def test_the_others_are_never_asked(type_: WebhookType) -> None:
    world = World(hooked(type_))
    world.to_step(2)
    while world.state.phase != "promoted":
        good_look(world)
        assert asks(world) == []
