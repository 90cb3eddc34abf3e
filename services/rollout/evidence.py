"""What a look does to a rollout's evidence, and what the evidence then says. Pure; used by decide.py."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.rollout.analysis import Counts
from services.rollout.counts import InconsistentCountersError, Reading, increments
from services.rollout.guardrails import NoData, bounds_of, counts_requests, name_of
from services.rollout.state import GuardrailState, Observation, RolloutState, Verdict
from shared.pipeline import Guardrail, RolloutPolicy


@dataclass(frozen=True)
class Harm:
    """A guardrail that fired, by which rule, and the numbers in words."""

    guardrail: str
    rule: str
    reason: str


def harm_threshold(policy: RolloutPolicy) -> float:
    """The e-value at which a guardrail rolls back: alpha is shared by all of them (Bonferroni)."""
    return len(policy.guardrails) / policy.alpha


def safe_threshold(policy: RolloutPolicy) -> float:
    """The e-value at which a guardrail is safe. All must be, so no correction is due (arXiv 2402.11609)."""
    return 1.0 / policy.beta


def absorb(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> RolloutState:
    """The state with this look's increments in its evidence, and its time counted if all data was there.

    While the candidate has no weight the counters are only remembered, as the values to subtract from later.
    """
    guardrails = dict(state.guardrails)
    blind: dict[str, str] = {}
    for guardrail in policy.guardrails:
        name = name_of(guardrail)
        reading = seen.readings.get(name)
        if reading is None:
            blind[name] = "it was not read"
            continue
        result = reading if isinstance(reading, NoData) else _counted(guardrails[name], reading, seen, guardrail, state)
        if isinstance(result, NoData):
            blind[name] = result.reason
            guardrails[name] = guardrails[name].model_copy(update={"verdict": "no_data"})
        else:
            guardrails[name] = result.model_copy(update={"verdict": _verdict(result, guardrail, policy)})
    seconds = state.step_seconds
    if state.phase == "progressing" and not blind and state.looked_at is not None:
        # A controller that was away for an hour has not watched for an hour.
        seconds += min(now - state.looked_at, 2 * policy.interval, key=timedelta.total_seconds).total_seconds()
    return state.model_copy(update={
        "guardrails": guardrails, "blind": blind, "step_seconds": seconds, "looked_at": now,
        "users": state.users if seen.users is None else seen.users,
    })


def _counted(
    before: GuardrailState, reading: tuple[Reading, ...], seen: Observation, guardrail: Guardrail, state: RolloutState
) -> GuardrailState | NoData:
    try:
        counters, counts = increments(before.counters, reading)
    except InconsistentCountersError as error:
        return NoData("inconsistent", str(error))
    after = before.model_copy(update={"counters": counters})
    if state.weight == 0 or state.phase not in ("progressing", "paused"):
        return after
    stable, candidate = counts.get(seen.stable, Counts()), counts.get(seen.candidate, Counts())
    evidence = before.evidence.updated(stable, candidate, bounds_of(guardrail))
    return after.model_copy(update={"evidence": evidence, "in_step": before.in_step + candidate})


def _verdict(state: GuardrailState, guardrail: Guardrail, policy: RolloutPolicy) -> Verdict:
    if state.evidence.e_harm >= harm_threshold(policy) or _over_hard_limit(state, guardrail):
        return "harmful"
    return "safe" if state.evidence.e_safe >= safe_threshold(policy) else "undecided"


def _over_hard_limit(state: GuardrailState, guardrail: Guardrail) -> bool:
    """So bad in this step that nothing needs proving."""
    if guardrail.hard_limit is None or state.in_step.total < guardrail.hard_limit_requests:
        return False
    return state.in_step.rate >= guardrail.hard_limit


def harm(state: RolloutState, policy: RolloutPolicy) -> Harm | None:
    """The first guardrail that fired at this look, if any did."""
    for guardrail in policy.guardrails:
        name = name_of(guardrail)
        mine = state.guardrails[name]
        if mine.verdict != "harmful":
            continue
        if _over_hard_limit(mine, guardrail):
            limit = f"{mine.in_step.bad} of {mine.in_step.total} requests in this step were bad"
            return Harm(name, "hard_limit", f"{name}: {limit}, the hard limit is {guardrail.hard_limit:.0%}")
        return Harm(name, "e_harm", f"{name}: {_numbers(mine)}; e-value {mine.evidence.e_harm:.3g}, "
                                    f"rollback at {harm_threshold(policy):g}")
    return None


def missing(state: RolloutState) -> list[str]:
    """Per guardrail without data, why; equal reasons once."""
    reasons: dict[str, list[str]] = {}
    for name, reason in state.blind.items():
        reasons.setdefault(reason, []).append(name)
    return [f"no data for {' and '.join(names)} because {reason}" for reason, names in reasons.items()]


def unproven(state: RolloutState, policy: RolloutPolicy) -> list[str]:
    """What the current step still lacks before the next may begin, beside data."""
    current = policy.steps[state.step - 1]
    lacking = []
    if state.step_seconds < current.min_duration.total_seconds():
        lacking.append(f"{state.step_seconds:.0f} of {current.min_duration.total_seconds():g} s watched")
    requests = _requests(state, policy)
    if requests < current.min_requests:
        lacking.append(f"{requests} of {current.min_requests} requests")
    for name, guardrail in state.guardrails.items():
        if guardrail.verdict == "undecided":
            lacking.append(f"{name} is undecided: {_numbers(guardrail)}, e-value {guardrail.evidence.e_safe:.3g}, "
                           f"safe at {safe_threshold(policy):g}")
    return lacking


def _requests(state: RolloutState, policy: RolloutPolicy) -> int:
    """The candidate's in this step, by those guardrails that count requests; without any, by all of them."""
    counting = [guardrail for guardrail in policy.guardrails if counts_requests(guardrail)] or policy.guardrails
    return min(state.guardrails[name_of(guardrail)].in_step.total for guardrail in counting)


def progress(state: RolloutState, policy: RolloutPolicy) -> str:
    """Where it stands: ``step 1 of 2 at 20 %``."""
    return f"step {state.step} of {len(policy.steps)} at {state.weight / 100:g} %"


def summary(state: RolloutState, policy: RolloutPolicy) -> dict[str, dict[str, float | str]]:
    """All numbers of the last look per guardrail, as stored with each decision."""
    return {
        name: {
            "stable_bad": mine.evidence.stable.bad, "stable_total": mine.evidence.stable.total,
            "candidate_bad": mine.evidence.candidate.bad, "candidate_total": mine.evidence.candidate.total,
            "e_harm": mine.evidence.e_harm, "harm_threshold": harm_threshold(policy),
            "e_safe": mine.evidence.e_safe, "safe_threshold": safe_threshold(policy), "verdict": mine.verdict,
        }
        for name, mine in state.guardrails.items()
    }


def _numbers(state: GuardrailState) -> str:
    evidence = state.evidence
    return (f"candidate {evidence.candidate.bad} bad of {evidence.candidate.total}, "
            f"stable {evidence.stable.bad} of {evidence.stable.total}")
