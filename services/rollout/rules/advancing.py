"""What gives the candidate more, once it has earned it, or once a person says so. Pure."""

from datetime import datetime

from services.rollout import hooks
from services.rollout.evidence import (
    controlled,
    favours_stable,
    missing,
    objectives_that,
    progress,
    tested,
    unproven,
    unwatched,
)
from services.rollout.observation import Observation
from services.rollout.rules.ending import abort
from services.rollout.rules.holding import pause
from services.rollout.rules.outcome import SETTLE, Outcome, refuse
from services.rollout.state import FULL_WEIGHT, RolloutState
from services.rollout.wanted import Announce, Answer, MakeStable, Record, Shift
from shared.pipeline import RolloutPolicy, ShadowStep


def promote_command(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """To the next step whatever the evidence says, or with `full` all the way."""
    if seen.command is None:
        return None
    if state.phase == "promoting":
        return state, refuse(seen.command, "it is being promoted already")
    if not seen.loading.complete:
        return state, refuse(seen.command, f"not every replica has loaded it; waiting for {seen.loading.awaited}")
    by, reason = seen.command.by, seen.command.said("promoted")
    if seen.command.full or state.step == len(policy.stages):
        after, effects = _promote(state, now, "person", reason, by=by)
    else:
        after, effects = _enter_step(state, state.step + 1, now, policy, reason, rule="person", by=by)
    return after, [*effects, Answer(seen.command.id)]


def stage(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """To the first step once every replica has loaded it, and webhooks let it."""
    if state.phase != "staging":
        return None
    if seen.loading.complete and state.direct:
        return _promote(state, now, "rollback_window", f"loaded on all {seen.loading.loaded} replicas; it is inside "
                                                       "the rollback window and needs no new analysis")
    if seen.loading.complete:
        held = hooks.closed(state, "pre-rollout", hooks.LOADED, now, policy)
        held = held or hooks.unconfirmed_step(state, 1, now, policy)
        if held is not None:
            # It is loaded: what it waits for is not the loading.
            return held[0].model_copy(update={"deadline_at": now + policy.load_deadline}), held[1]
        return _enter_step(state, 1, now, policy, f"loaded on all {seen.loading.loaded} replicas", rule="loaded")
    waiting = f"{seen.loading.loaded} replicas have loaded the candidate; waiting for {seen.loading.awaited}"
    if state.deadline_at is not None and now >= state.deadline_at:
        limit = policy.load_deadline.total_seconds()
        return abort(state, now, "load_deadline", f"not loaded everywhere within {limit:g} s: {waiting}")
    return state.model_copy(update={"reason": waiting}), [Record("hold", "loading", waiting)]


def lose(state: RolloutState, _: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """An A/B test or an objective may end with the answer that the candidate is not worth it; that is no harm."""
    if state.phase != "progressing" or missing(state) or unwatched(state, policy):
        return None
    if favours_stable(state):
        return abort(state, now, "ab_test", f"the A/B test favoured stable: {tested(state, policy)}")
    missed = objectives_that(state, policy, "stable")
    return abort(state, now, "objective", f"missed for sure: {missed[0]}") if missed else None


def proceed(state: RolloutState, _: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """To the next step once all is proved; else it holds, and says what lacks."""
    if state.phase != "progressing":
        return None
    doubts = [*missing(state), *unproven(state, policy), *hooks.doubts(state, policy)]
    if not doubts:
        return _advance(state, now, policy)
    reason = f"{progress(state, policy)}: {'; '.join(doubts)}"
    held = hooks.unconfirmed(state).model_copy(update={"reason": reason})
    if state.deadline_at is not None and now >= state.deadline_at:
        return _undecided(held, now, policy, doubts)
    return held, [Record("hold", "evidence" if not missing(state) else "no_data", reason)]


def finish_promotion(state: RolloutState, _: Observation, now: datetime, __: RolloutPolicy) -> Outcome | None:
    """All traffic has settled: it is stable."""
    if state.phase != "promoting":
        return None
    if now < state.since + SETTLE:
        return state, []
    return state.model_copy(update={"phase": "promoted", "since": now}), [MakeStable(), Announce()]


def _advance(state: RolloutState, now: datetime, policy: RolloutPolicy) -> Outcome:
    """To the next step, or all the way, once people and webhooks let it."""
    if policy.stages[state.step - 1].approval and state.approved < state.step:
        return _await_approval(state, now, policy)
    held = hooks.unconfirmed_step(state, state.step + 1, now, policy)
    if held is not None:
        return held
    if state.step < len(policy.stages):
        return _enter_step(state, state.step + 1, now, policy, f"every guardrail is safe at step {state.step}",
                           rule="evidence")
    if policy.ab_test is not None:
        return _promote(state, now, "ab_test", f"the A/B test favoured the candidate: {tested(state, policy)}")
    met = "".join(f"; met: {numbers}" for numbers in objectives_that(state, policy, "candidate"))
    return _promote(state, now, "evidence", f"every guardrail is safe after all {state.step} steps{met}")


def _await_approval(state: RolloutState, now: datetime, policy: RolloutPolicy) -> Outcome:
    reason = f"{progress(state, policy)}: every guardrail is safe; waiting for a person to resume, promote or abort"
    paused, effects = pause(state, now, "approval", reason)
    return paused.model_copy(update={"awaits_approval": state.step}), effects


def _undecided(state: RolloutState, now: datetime, policy: RolloutPolicy, doubts: list[str]) -> Outcome:
    limit = policy.deadline.total_seconds()
    reason = f"undecided after {limit:g} s ({'; '.join(doubts)})"
    if policy.on_insufficient_evidence == "rollback":
        return abort(state, now, "deadline", f"{reason}; the policy says rollback")
    if policy.on_insufficient_evidence == "pause":
        return pause(state, now, "deadline", f"{reason}; the policy says pause")
    extended = state.model_copy(update={"deadline_at": now + policy.deadline, "reason": f"{reason}; extended"})
    return extended, [Record("extend", "deadline", extended.reason), Announce()]


def _enter_step(
    state: RolloutState, number: int, now: datetime, policy: RolloutPolicy, why: str, *, rule: str, by: str = ""
) -> Outcome:
    current = policy.stages[number - 1]
    weight = 0 if isinstance(current, ShadowStep) else round(current.weight * 100)
    shadow = round(current.percent * 100) if isinstance(current, ShadowStep) else 0
    control = min(weight, FULL_WEIGHT - weight) if controlled(state, policy) else 0
    both = " and the control" if controlled(state, policy) else ""
    gives = f"copies {shadow / 100:g} % of the requests to it{both}" if shadow else f"gives it{both} {weight / 100:g} %"
    reason = f"{why}; step {number} of {len(policy.stages)} {gives}"
    first_traffic = state.shadow > 0 and weight > 0
    fresh = {
        name: guardrail.begin_traffic() if first_traffic else guardrail.begin_step()
        for name, guardrail in state.guardrails.items()
    }
    # While the split stays as it is, both are counted at the same hours; else one has more of the later hours.
    objectives = state.objectives if controlled(state, policy) else {
        name: objective.begin_step() for name, objective in state.objectives.items()
    }
    entered = state.model_copy(update={
        "phase": "progressing", "step": number, "weight": weight, "control": control, "shadow": shadow,
        "objectives": objectives, "reason": reason, "step_seconds": 0.0, "guardrails": fresh, "paused_in": None,
        "exposed_from": state.exposed_from or (now if weight else None),
        "units": state.units.begin_split() if rule == "person" else state.units,
        **({} if state.phase == "progressing" else {"since": now, "deadline_at": now + policy.deadline}),
    })
    return entered, [Shift(weight, shadow, control), Record("advance", rule, reason, by), Announce()]


def _promote(state: RolloutState, now: datetime, rule: str, reason: str, by: str = "") -> Outcome:
    promoting = state.model_copy(update={
        "phase": "promoting", "weight": FULL_WEIGHT, "control": 0, "shadow": 0, "since": now, "reason": reason,
        "deadline_at": None, "paused_in": None, "exposed_from": state.exposed_from or now,
    })
    return promoting, [Shift(FULL_WEIGHT), Record("promote", rule, reason, by), Announce()]
