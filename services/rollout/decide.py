"""The life of a rollout as one pure function: `step(state, observation, now, policy) -> (state, effects)`.

    staging ──▶ progressing ──▶ promoting ──▶ promoted
       │          │    ▲            │
       │          ▼    │            │
       ├──────▶ paused ┤            │        every phase that has not ended, waiting ones too,
       │               │            │        leads to aborting, and that to weight 0:
       └──────▶ aborting ◀──────────┘ ──▶ rolled_back | superseded

The rules are asked in the order of `RULES`; the first that has an answer decides. What makes traffic leave the
candidate comes before what keeps it, and that before what gives it more. Nothing here reads a clock or does I/O; the
effects are carried out in the transaction that stores the new state, so a crash loses both or neither.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from services.rollout import hooks
from services.rollout.analysis import SampleRatio
from services.rollout.evidence import (
    absorb,
    controlled,
    favours_stable,
    harm,
    missing,
    objectives_that,
    progress,
    split_mismatch,
    tested,
    unproven,
    unwatched,
)
from services.rollout.state import (
    FULL_WEIGHT,
    TERMINAL,
    Announce,
    Answer,
    Command,
    Effect,
    GuardrailState,
    LeaveRoute,
    MakeStable,
    ObjectiveState,
    Observation,
    Record,
    RolloutState,
    Shift,
    TakeRoute,
    UnitState,
)
from shared.pipeline import RolloutPolicy, ShadowStep

# Between taking the last weight from a version and taking the version itself away, so that a gateway that hears of
# the change a moment later than the others still finds it loaded.
SETTLE = timedelta(seconds=2)
# How often staging looks by itself; news from the replicas wakes it earlier.
STAGING_LOOK = timedelta(seconds=2)

Outcome = tuple[RolloutState, list[Effect]]
Rule = Callable[[RolloutState, Observation, datetime, RolloutPolicy], Outcome | None]


def new_state(now: datetime, policy: RolloutPolicy) -> RolloutState:
    """A rollout that waits for its route."""
    guardrails = {guardrail.called: GuardrailState() for guardrail in policy.guardrails}
    test = ObjectiveState() if policy.ab_test else None
    objectives = {objective.called: ObjectiveState() for objective in policy.objectives}
    return RolloutState(since=now, reason="waiting for the route", guardrails=guardrails, ab_test=test,
                        objectives=objectives)


def step(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome:
    """One look: the next state, and what must be done for it to be true."""
    if state.phase in TERMINAL:
        return state, _refuse(seen.command, f"the rollout has ended: {state.phase}")
    state = hooks.heard(absorb(state, seen, now, policy), seen)
    for rule in RULES:
        outcome = rule(state, seen, now, policy)
        if outcome is not None:
            after, asks = hooks.at_each_look(outcome[0], now, policy)
            return after, [*outcome[1], *asks]
    raise AssertionError(f"no rule for {state.phase}")  # the last rule always answers


def next_look(state: RolloutState, now: datetime, policy: RolloutPolicy) -> datetime | None:
    """When to look again; None when there is nothing left to do."""
    if state.phase in TERMINAL:
        return None
    if state.phase in ("promoting", "aborting"):
        return max(now, state.since + SETTLE)
    return now + (min(STAGING_LOOK, policy.interval) if state.phase == "staging" else policy.interval)


# --- What takes traffic away ----------------------------------------------------------------------


def _finish_abort(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    if state.phase != "aborting":
        return None
    refused = _refuse(seen.command, "the rollout is being aborted already")
    if now < state.since + SETTLE:
        return state, refused
    ended = state.model_copy(update={"phase": state.ending or "rolled_back", "since": now})
    return ended, [*refused, LeaveRoute(), Announce()]


def _abort_command(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    if seen.command is None or seen.command.verb != "abort":
        return None
    aborted, effects = _abort(state, now, "person", seen.command.said("aborted"), by=seen.command.by)
    return aborted, [*effects, Answer(seen.command.id)]


def _superseded(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    if seen.successor is None or state.phase == "promoting":
        return None
    aborted, effects = _abort(state, now, "superseded", f"superseded by {seen.successor}")
    refused = _refuse(seen.command, aborted.reason)
    return aborted.model_copy(update={"ending": "superseded"}), [*effects, *refused]


def _cannot_serve(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    failure = seen.misfit or seen.loading.failure
    if not failure or state.phase == "promoting":
        return None
    aborted, effects = _abort(state, now, "load", failure)
    return aborted, [*effects, *_refuse(seen.command, failure)]


def _harm(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """A paused rollout still has traffic, so harm ends it too."""
    if state.phase not in ("progressing", "paused") or state.step == 0:
        return None
    found = harm(state, policy)
    if found is None:
        return None
    aborted, effects = _abort(state, now, found.rule, found.reason)
    return aborted.model_copy(update={"fired": found.guardrail}), [*effects, *_refuse(seen.command, found.reason)]


def _webhook_ends(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    why = hooks.end(state, policy) if state.phase in ("staging", "progressing", "paused") else None
    if why is None:
        return None
    aborted, effects = _abort(state, now, "webhook", why)
    return aborted, [*effects, *_refuse(seen.command, why)]


def _abort(state: RolloutState, now: datetime, rule: str, reason: str, by: str = "") -> Outcome:
    """Weight 0 at once; the rest follows when that has settled."""
    aborted = state.model_copy(update={
        "phase": "aborting", "ending": "rolled_back", "weight": 0, "control": 0, "shadow": 0, "reason": reason,
        "since": now, "exposed_until": now if state.exposed_from else None, "deadline_at": None, "paused_in": None,
    })
    return aborted, [Shift(0), Record("rollback", rule, reason, by), Announce()]


# --- What holds -----------------------------------------------------------------------------------


def _wait_for_route(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    if state.started_at is not None:
        return None
    if not seen.route_free:
        return state, _refuse(seen.command, "the rollout has not begun: another one holds the route")
    held = None if state.direct else hooks.closed(state, "confirm-rollout", hooks.START, now, policy)
    if held is not None:
        return held[0], [*held[1], *_refuse(seen.command, f"the rollout has not begun: {held[0].reason}")]
    refused = _refuse(seen.command, "the rollout has not begun yet")
    reason = "the replicas are loading the candidate"
    begun = state.model_copy(update={
        "started_at": now, "since": now, "deadline_at": now + policy.load_deadline, "reason": reason,
    })
    return begun, [*refused, TakeRoute(control=controlled(state, policy)), Record("stage", "route", reason), Announce()]


def _pause_command(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    if seen.command is None or seen.command.verb != "pause":
        return None
    if state.phase not in ("staging", "progressing"):
        return state, _refuse(seen.command, f"it cannot be paused while {state.phase}")
    paused, effects = _pause(state, now, "person", seen.command.said("paused"), by=seen.command.by)
    return paused, [*effects, Answer(seen.command.id)]


def _pause(state: RolloutState, now: datetime, rule: str, reason: str, by: str = "") -> Outcome:
    paused = state.model_copy(update={
        "phase": "paused", "paused_in": state.phase, "since": now, "reason": reason, "deadline_at": None,
    })
    return paused, [Record("pause", rule, reason, by), Announce()]


def _resume_command(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    if seen.command is None or seen.command.verb != "resume":
        return None
    if state.phase != "paused":
        return state, _refuse(seen.command, f"it is not paused but {state.phase}")
    phase = state.paused_in or "staging"
    reason = seen.command.said("resumed")
    limit = policy.load_deadline if phase == "staging" else policy.deadline
    resumed = state.model_copy(update={
        "phase": phase, "paused_in": None, "since": now, "deadline_at": now + limit, "reason": reason,
        "approved": max(state.approved, state.awaits_approval),
        "units": _split_forgotten(state),
    })
    return resumed, [Record("resume", "person", reason, seen.command.by), Announce(), Answer(seen.command.id)]


def _promote_command(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """To the next step whatever the evidence says, or with `full` all the way."""
    if seen.command is None:
        return None
    if state.phase == "promoting":
        return state, _refuse(seen.command, "it is being promoted already")
    if not seen.loading.complete:
        return state, _refuse(seen.command, f"not every replica has loaded it; waiting for {_names(seen)}")
    by, reason = seen.command.by, seen.command.said("promoted")
    if seen.command.full or state.step == len(policy.stages):
        after, effects = _promote(state, now, "person", reason, by=by)
    else:
        after, effects = _enter_step(state, state.step + 1, now, policy, reason, rule="person", by=by)
    return after, [*effects, Answer(seen.command.id)]


def _invalid_split(state: RolloutState, _: Observation, now: datetime, __: RolloutPolicy) -> Outcome | None:
    """Whoever is compared was not dealt as meant: what the evidence says is not about the candidate alone."""
    mismatch = split_mismatch(state) if state.phase == "progressing" else None
    return _pause(state, now, "sample_ratio", mismatch) if mismatch else None


def _split_forgotten(state: RolloutState) -> UnitState:
    """A person has seen to it: the split is tested from now on."""
    return state.units.model_copy(update={"split": SampleRatio()})


# --- What gives the candidate more ----------------------------------------------------------------


def _stage(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
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
    waiting = f"{seen.loading.loaded} replicas have loaded the candidate; waiting for {_names(seen)}"
    if state.deadline_at is not None and now >= state.deadline_at:
        limit = policy.load_deadline.total_seconds()
        return _abort(state, now, "load_deadline", f"not loaded everywhere within {limit:g} s: {waiting}")
    return state.model_copy(update={"reason": waiting}), [Record("hold", "loading", waiting)]


def _lose(state: RolloutState, _: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """An A/B test or an objective may end with the answer that the candidate is not worth it; that is no harm."""
    if state.phase != "progressing" or missing(state) or unwatched(state, policy):
        return None
    if favours_stable(state):
        return _abort(state, now, "ab_test", f"the A/B test favoured stable: {tested(state, policy)}")
    missed = objectives_that(state, policy, "stable")
    return _abort(state, now, "objective", f"missed for sure: {missed[0]}") if missed else None


def _progress(state: RolloutState, _: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
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
    paused, effects = _pause(state, now, "approval", reason)
    return paused.model_copy(update={"awaits_approval": state.step}), effects


def _undecided(state: RolloutState, now: datetime, policy: RolloutPolicy, doubts: list[str]) -> Outcome:
    limit = policy.deadline.total_seconds()
    reason = f"undecided after {limit:g} s ({'; '.join(doubts)})"
    if policy.on_insufficient_evidence == "rollback":
        return _abort(state, now, "deadline", f"{reason}; the policy says rollback")
    if policy.on_insufficient_evidence == "pause":
        return _pause(state, now, "deadline", f"{reason}; the policy says pause")
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
        "units": _split_forgotten(state) if rule == "person" else state.units,
        **({} if state.phase == "progressing" else {"since": now, "deadline_at": now + policy.deadline}),
    })
    return entered, [Shift(weight, shadow, control), Record("advance", rule, reason, by), Announce()]


def _promote(state: RolloutState, now: datetime, rule: str, reason: str, by: str = "") -> Outcome:
    promoting = state.model_copy(update={
        "phase": "promoting", "weight": FULL_WEIGHT, "control": 0, "shadow": 0, "since": now, "reason": reason,
        "deadline_at": None, "paused_in": None, "exposed_from": state.exposed_from or now,
    })
    return promoting, [Shift(FULL_WEIGHT), Record("promote", rule, reason, by), Announce()]


def _finish_promotion(state: RolloutState, _: Observation, now: datetime, __: RolloutPolicy) -> Outcome | None:
    if state.phase != "promoting":
        return None
    if now < state.since + SETTLE:
        return state, []
    return state.model_copy(update={"phase": "promoted", "since": now}), [MakeStable(), Announce()]


def _stay_paused(state: RolloutState, _: Observation, __: datetime, ___: RolloutPolicy) -> Outcome | None:
    return state, [Record("hold", "paused", state.reason)]


RULES: tuple[Rule, ...] = (
    _finish_abort, _abort_command, _superseded, _cannot_serve, _harm, _webhook_ends,
    _wait_for_route, _pause_command, _resume_command, _promote_command,
    _invalid_split, _stage, _lose, _progress, _finish_promotion, _stay_paused,
)


def _refuse(command: Command | None, why: str) -> list[Effect]:
    return [Answer(command.id, refused=why)] if command else []


def _names(seen: Observation) -> str:
    return ", ".join(seen.loading.waiting) or "a replica to say that it is ready"
