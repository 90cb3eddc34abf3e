"""Webhooks at Flagger's points of a rollout: which are due, and what their answers mean. Pure; used by decide.py.

A look never waits for a call. It wants one made (`Ask`), and a later look finds the answer among its facts
(`Observation.answers`). So an answer that never comes holds what it was to confirm, and nothing else.

Who holds and who ends a rollout is as in Flagger (docs.flagger.app/usage/webhooks), but for three things: failures
count in a row and per webhook, so that an old one is forgiven; a confirmation counts for the moment that it was asked
for, and is asked for again when the evidence fell back in between; and all webhooks of a point are asked at once.
"""

from collections.abc import Iterator
from datetime import datetime

from services.rollout.hook_state import Ask, HookState
from services.rollout.observation import Observation
from services.rollout.state import RolloutState
from services.rollout.wanted import Announce, Effect, Record
from shared.pipeline import RolloutPolicy, ShadowStep
from shared.webhooks import Webhook, WebhookType

# Those whose answer somebody waits for; the others only hear what happens.
ASKED: frozenset[WebhookType] = frozenset({
    "confirm-rollout", "pre-rollout", "rollout", "confirm-traffic-increase", "confirm-promotion", "rollback",
})
# What webhooks confirm, beside steps.
START, LOADED, PROMOTION = "start", "loaded", "promotion"


def heard(state: RolloutState, seen: Observation) -> RolloutState:
    """The state with the answers in it; those to earlier questions are dropped."""
    hooks = dict(state.hooks)
    for name, answer in seen.answers.items():
        mine = hooks.get(name)
        if mine is None or not mine.pending or mine.call != answer.call:
            continue
        hooks[name] = mine.model_copy(update={
            "pending": False, "answered": True, "passed": answer.passed, "said": answer.said,
            "failures": 0 if answer.passed else mine.failures + 1,
        })
    return state if hooks == state.hooks else state.model_copy(update={"hooks": hooks})


def closed(
    state: RolloutState, type_: WebhookType, point: str, now: datetime, policy: RolloutPolicy
) -> tuple[RolloutState, list[Effect]] | None:
    """What to do while some webhook of a type does not let the rollout pass; None where all do.

    Args:
        point: what they are to confirm; an answer about another point does not count.
    """
    hooks, effects, why, news = dict(state.hooks), list[Effect](), list[str](), False
    for webhook in _of(policy, type_):
        mine = hooks.get(webhook.name, HookState())
        if mine.point == point and mine.passed:
            continue
        if _due(mine, point, now, policy):
            mine = _asked(mine, point, now)
            effects.append(Ask(webhook.name, mine.call))
        news = news or (mine.answered and not mine.told)
        hooks[webhook.name] = mine.model_copy(update={"told": mine.told or mine.answered})
        why.append(_waiting(webhook, mine))
    if not why:
        return None
    reason = "; ".join(why)
    # The first refusal is told; that it is refused again and again is not.
    told: list[Effect] = [Announce()] if news else []
    return state.model_copy(update={"hooks": hooks, "reason": reason}), [
        *effects, Record("hold", "webhook", reason), *told,
    ]


def unconfirmed_step(
    state: RolloutState, number: int, now: datetime, policy: RolloutPolicy
) -> tuple[RolloutState, list[Effect]] | None:
    """What to do while a webhook does not confirm a step, or the promotion after the last one; None where all do."""
    if number > len(policy.stages):
        return closed(state, "confirm-promotion", PROMOTION, now, policy)
    if isinstance(policy.stages[number - 1], ShadowStep):  # copies are no traffic
        return None
    return closed(state, "confirm-traffic-increase", _step(number), now, policy)


def doubts(state: RolloutState, policy: RolloutPolicy) -> list[str]:
    """What the webhooks of type rollout hold against the next step: each must have passed in this one, and last."""
    found = []
    for webhook in _of(policy, "rollout"):
        mine = state.hooks.get(webhook.name, HookState())
        if mine.point != _step(state.step) or not mine.answered:
            found.append(f"the webhook {webhook.name} has not answered in this step yet")
        elif not mine.passed:
            found.append(_failed(webhook, mine))
    return found


def end(state: RolloutState, policy: RolloutPolicy) -> str | None:
    """Why a webhook ends the rollout, if one does: it asks for that, or it failed too often."""
    for webhook in policy.webhooks:
        mine = state.hooks.get(webhook.name, HookState())
        if webhook.type == "rollback" and mine.passed:
            return f"the webhook {webhook.name} asked for a rollback: {mine.said}"
        if webhook.type in ("pre-rollout", "rollout") and mine.failures >= webhook.failure_threshold:
            return _failed(webhook, mine)
    return None


def unconfirmed(state: RolloutState) -> RolloutState:
    """The state in which more traffic has to be confirmed anew: what was confirmed is true no more."""
    ahead = (_step(state.step + 1), PROMOTION)
    hooks = {
        name: HookState(call=mine.call, asked_at=mine.asked_at) if mine.point in ahead and not mine.pending else mine
        for name, mine in state.hooks.items()
    }
    return state if hooks == state.hooks else state.model_copy(update={"hooks": hooks})


def at_each_look(
    state: RolloutState, now: datetime, policy: RolloutPolicy
) -> tuple[RolloutState, list[Effect]]:
    """The state and the questions of those that are asked again and again, whatever the look has decided."""
    if state.phase == "paused":
        state = unconfirmed(state)
    hooks, asks = dict(state.hooks), list[Effect]()
    for webhook in policy.webhooks:
        point = _repeated(webhook.type, state)
        mine = hooks.get(webhook.name, HookState())
        if point is not None and _due(mine, point, now, policy):
            hooks[webhook.name] = _asked(mine, point, now)
            asks.append(Ask(webhook.name, hooks[webhook.name].call))
    return (state.model_copy(update={"hooks": hooks}), asks) if asks else (state, [])


def _repeated(type_: WebhookType, state: RolloutState) -> str | None:
    """What a webhook is asked about at each look; None for one that is not asked now."""
    if type_ == "rollout" and state.phase == "progressing":
        return _step(state.step)
    begun = state.started_at is not None or bool(state.hooks)  # not while another rollout holds the route
    if type_ == "rollback" and begun and state.phase in ("staging", "progressing", "paused"):
        return "rollback"
    return None


def _due(mine: HookState, point: str, now: datetime, policy: RolloutPolicy) -> bool:
    """At once about something new; else an interval after the last question, once that is answered."""
    if mine.point != point or mine.asked_at is None:
        return True
    return not mine.pending and now - mine.asked_at >= policy.interval


def _asked(mine: HookState, point: str, now: datetime) -> HookState:
    """With the next question; what was answered about the same point stays until it is answered again."""
    kept = mine if mine.point == point else HookState(point=point)
    return kept.model_copy(update={"call": mine.call + 1, "asked_at": now, "pending": True})


def _of(policy: RolloutPolicy, type_: WebhookType) -> Iterator[Webhook]:
    return (webhook for webhook in policy.webhooks if webhook.type == type_)


def _step(number: int) -> str:
    return f"step {number}"


def _waiting(webhook: Webhook, mine: HookState) -> str:
    if webhook.type == "pre-rollout" and mine.answered:
        return _failed(webhook, mine)
    return f"waiting for the webhook {webhook.name} ({webhook.type}): {mine.said or 'it has not answered yet'}"


def _failed(webhook: Webhook, mine: HookState) -> str:
    count = f"{mine.failures} of {webhook.failure_threshold} times in a row"
    return f"the webhook {webhook.name} ({webhook.type}) failed {count}: {mine.said}"
