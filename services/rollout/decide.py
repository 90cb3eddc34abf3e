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

from datetime import datetime, timedelta

from services.rollout import hooks
from services.rollout.absorb import absorb
from services.rollout.observation import Observation
from services.rollout.rules import advancing, ending, holding
from services.rollout.rules.outcome import SETTLE, Outcome, Rule, refuse
from services.rollout.state import TERMINAL, GuardrailState, ObjectiveState, RolloutState
from shared.pipeline import RolloutPolicy

# How often staging looks by itself; news from the replicas wakes it earlier.
STAGING_LOOK = timedelta(seconds=2)
RULES: tuple[Rule, ...] = (
    ending.finish_abort, ending.abort_command, ending.superseded, ending.cannot_serve, ending.harmful,
    ending.webhook_ends,
    holding.wait_for_route, holding.pause_command, holding.resume_command, advancing.promote_command,
    holding.invalid_split, advancing.stage, advancing.lose, advancing.proceed, advancing.finish_promotion,
    holding.stay_paused,
)


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
        return state, refuse(seen.command, f"the rollout has ended: {state.phase}")
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
