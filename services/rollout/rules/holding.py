"""What keeps the candidate where it is, and what lets it go on from there. Pure."""

from datetime import datetime

from services.rollout import hooks
from services.rollout.evidence import controlled, split_mismatch
from services.rollout.observation import Observation
from services.rollout.rules.outcome import Outcome, refuse
from services.rollout.state import RolloutState
from services.rollout.wanted import Announce, Answer, Record, TakeRoute
from shared.pipeline import RolloutPolicy


def wait_for_route(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """The route is another's, or it takes it now, once webhooks let it."""
    if state.started_at is not None:
        return None
    if not seen.route_free:
        return state, refuse(seen.command, "the rollout has not begun: another one holds the route")
    held = None if state.direct else hooks.closed(state, "confirm-rollout", hooks.START, now, policy)
    if held is not None:
        return held[0], [*held[1], *refuse(seen.command, f"the rollout has not begun: {held[0].reason}")]
    refused = refuse(seen.command, "the rollout has not begun yet")
    reason = "the replicas are loading the candidate"
    begun = state.model_copy(update={
        "started_at": now, "since": now, "deadline_at": now + policy.load_deadline, "reason": reason,
    })
    return begun, [*refused, TakeRoute(control=controlled(state, policy)), Record("stage", "route", reason), Announce()]


def pause_command(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    """A person holds it."""
    if seen.command is None or seen.command.verb != "pause":
        return None
    if state.phase not in ("staging", "progressing"):
        return state, refuse(seen.command, f"it cannot be paused while {state.phase}")
    paused, effects = pause(state, now, "person", seen.command.said("paused"), by=seen.command.by)
    return paused, [*effects, Answer(seen.command.id)]


def resume_command(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """A person lets it go on, with all the time that its phase has."""
    if seen.command is None or seen.command.verb != "resume":
        return None
    if state.phase != "paused":
        return state, refuse(seen.command, f"it is not paused but {state.phase}")
    phase = state.paused_in or "staging"
    reason = seen.command.said("resumed")
    limit = policy.load_deadline if phase == "staging" else policy.deadline
    resumed = state.model_copy(update={
        "phase": phase, "paused_in": None, "since": now, "deadline_at": now + limit, "reason": reason,
        "approved": max(state.approved, state.awaits_approval),
        "units": state.units.begin_split(),
    })
    return resumed, [Record("resume", "person", reason, seen.command.by), Announce(), Answer(seen.command.id)]


def invalid_split(state: RolloutState, _: Observation, now: datetime, __: RolloutPolicy) -> Outcome | None:
    """Whoever is compared was not dealt as meant: what the evidence says is not about the candidate alone."""
    mismatch = split_mismatch(state) if state.phase == "progressing" else None
    return pause(state, now, "sample_ratio", mismatch) if mismatch else None


def stay_paused(state: RolloutState, _: Observation, __: datetime, ___: RolloutPolicy) -> Outcome | None:
    """The last rule: nothing else had an answer."""
    return state, [Record("hold", "paused", state.reason)]


def pause(state: RolloutState, now: datetime, rule: str, reason: str, by: str = "") -> Outcome:
    """It keeps what traffic it has, and its clock stands."""
    paused = state.model_copy(update={
        "phase": "paused", "paused_in": state.phase, "since": now, "reason": reason, "deadline_at": None,
    })
    return paused, [Record("pause", rule, reason, by), Announce()]
