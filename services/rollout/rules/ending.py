"""What takes traffic from the candidate. Pure."""

from datetime import datetime

from services.rollout import hooks
from services.rollout.evidence import harm
from services.rollout.observation import Observation
from services.rollout.rules.outcome import SETTLE, Outcome, refuse
from services.rollout.state import RolloutState
from services.rollout.wanted import Announce, Answer, LeaveRoute, Record, Shift
from shared.pipeline import RolloutPolicy


def finish_abort(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    """Weight 0 has settled: the candidate leaves."""
    if state.phase != "aborting":
        return None
    refused = refuse(seen.command, "the rollout is being aborted already")
    if now < state.since + SETTLE:
        return state, refused
    ended = state.model_copy(update={"phase": state.ending or "rolled_back", "since": now})
    return ended, [*refused, LeaveRoute(), Announce()]


def abort_command(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    """A person ends it."""
    if seen.command is None or seen.command.verb != "abort":
        return None
    aborted, effects = abort(state, now, "person", seen.command.said("aborted"), by=seen.command.by)
    return aborted, [*effects, Answer(seen.command.id)]


def superseded(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    """A newer version waits for the route, or has it already."""
    if seen.successor is None or state.phase == "promoting":
        return None
    aborted, effects = abort(state, now, "superseded", f"superseded by {seen.successor}")
    refused = refuse(seen.command, aborted.reason)
    return aborted.model_copy(update={"ending": "superseded"}), [*effects, *refused]


def cannot_serve(state: RolloutState, seen: Observation, now: datetime, _: RolloutPolicy) -> Outcome | None:
    """A replica can never serve it, or it was trained for another base model."""
    failure = seen.misfit or seen.loading.failure
    if not failure or state.phase == "promoting":
        return None
    aborted, effects = abort(state, now, "load", failure)
    return aborted, [*effects, *refuse(seen.command, failure)]


def harmful(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """A paused rollout still has traffic, so harm ends it too."""
    if state.phase not in ("progressing", "paused") or state.step == 0:
        return None
    found = harm(state, policy)
    if found is None:
        return None
    aborted, effects = abort(state, now, found.rule, found.reason)
    return aborted.model_copy(update={"fired": found.guardrail}), [*effects, *refuse(seen.command, found.reason)]


def webhook_ends(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> Outcome | None:
    """A webhook says so, or has failed too often."""
    why = hooks.end(state, policy) if state.phase in ("staging", "progressing", "paused") else None
    if why is None:
        return None
    aborted, effects = abort(state, now, "webhook", why)
    return aborted, [*effects, *refuse(seen.command, why)]


def abort(state: RolloutState, now: datetime, rule: str, reason: str, by: str = "") -> Outcome:
    """Weight 0 at once; the rest follows when that has settled."""
    aborted = state.model_copy(update={
        "phase": "aborting", "ending": "rolled_back", "weight": 0, "control": 0, "shadow": 0, "reason": reason,
        "since": now, "exposed_until": now if state.exposed_from else None, "deadline_at": None, "paused_in": None,
    })
    return aborted, [Shift(0), Record("rollback", rule, reason, by), Announce()]
