"""What a look does to a rollout's evidence, and what the evidence then says. Pure; used by decide.py."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.rollout import abtest
from services.rollout.analysis import Counts
from services.rollout.analysis.evidence import CountedBy
from services.rollout.analysis.sample_ratio import LEVEL
from services.rollout.counts import InconsistentCountersError, Reading, grown, increments
from services.rollout.guardrails import NoData, bounds_of, counts_requests, is_mean, judges_copies
from services.rollout.state import (
    FULL_WEIGHT,
    AbVerdict,
    GuardrailState,
    ObjectiveState,
    Observation,
    RolloutState,
    UnitState,
    Verdict,
)
from services.rollout.unit_counts import UnitCounts, UnitReadings, can_count, counted
from shared.pipeline import AbTest, Guardrail, RolloutPolicy


@dataclass(frozen=True)
class Harm:
    """A guardrail that fired, by which rule, and the numbers in words."""

    guardrail: str
    rule: str
    reason: str


def harm_threshold(policy: RolloutPolicy) -> float:
    """The e-value at which a guardrail rolls back: alpha is shared by all of them (Bonferroni).

    Copies and traffic are judged apart, so a policy with both has twice as many tests.
    """
    kinds = 1 if policy.shadow is None else 2
    return kinds * len(policy.guardrails) / policy.alpha


def safe_threshold(policy: RolloutPolicy) -> float:
    """The e-value at which a guardrail is safe. All must be, so no correction is due (arXiv 2402.11609)."""
    return 1.0 / policy.beta


def controlled(state: RolloutState, policy: RolloutPolicy) -> bool:
    """Whether the candidate is compared with a control, or with all of stable."""
    return policy.control and not state.direct


def absorb(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> RolloutState:
    """The state with this look's increments in its evidence, and its time counted if all data was there.

    While the candidate gets nothing the counters are only remembered, as the values to subtract from later; so are
    those of guardrails that copies cannot show, while it gets only copies.
    """
    guardrails = dict(state.guardrails)
    blind: dict[str, str] = {}
    units, counts = _units(state, seen, now, policy)
    for guardrail in policy.guardrails:
        name = guardrail.called
        reading = seen.readings.get(name)
        if reading is None:
            if _judged(guardrail, state):
                blind[name] = "it was not read"
            continue
        met = _met(guardrail, state, counts, known=bool(units.counters))
        result: GuardrailState | NoData
        if isinstance(reading, NoData):
            result = reading
            if not _exposed(state):
                guardrails[name] = _remembering(guardrails[name], reading.others)
        elif isinstance(met, NoData):
            result = met
        else:
            result = _counted(guardrails[name], reading, guardrail, _Look(state, seen, met))
        if not _judged(guardrail, state):
            if not isinstance(result, NoData):
                guardrails[name] = result
        elif isinstance(result, NoData):
            blind[name] = result.reason
            guardrails[name] = guardrails[name].model_copy(update={"verdict": "no_data"})
        else:
            guardrails[name] = result.model_copy(update={"verdict": _verdict(result, guardrail, policy)})
    look = _Look(state, seen, None)
    test = _compared(policy.ab_test, state.ab_test, look, policy, blind) if policy.ab_test and state.ab_test else None
    objectives = {
        objective.called: _compared(objective, state.objectives[objective.called], look, policy, blind)
        for objective in policy.objectives
    }
    seconds = state.step_seconds
    if state.phase == "progressing" and not blind and state.looked_at is not None:
        # A controller that was away for an hour has not watched for an hour.
        seconds += min(now - state.looked_at, 2 * policy.interval, key=timedelta.total_seconds).total_seconds()
    return state.model_copy(update={
        "guardrails": guardrails, "ab_test": test, "objectives": objectives,
        "blind": blind, "step_seconds": seconds, "looked_at": now,
        "users": state.users if seen.users is None else seen.users, "units": units,
    })


def _exposed(state: RolloutState) -> bool:
    return (state.weight > 0 or state.shadow > 0) and state.phase in ("progressing", "paused")


def _compared(
    test: abtest.Goal, before: ObjectiveState, look: "_Look", policy: RolloutPolicy, blind: dict[str, str]
) -> ObjectiveState:
    """An A/B test or an objective after this look; why it has no data goes to `blind`. It begins anew after copies."""
    state, seen = look.state, look.seen
    if state.shadow > 0:
        return ObjectiveState()
    reading = seen.readings.get(test.called)
    result: ObjectiveState | NoData
    if reading is None:
        result = NoData("unread", "it was not read")
    elif isinstance(reading, NoData):
        result = reading
    else:
        exposed = _exposed(state)
        known = abtest.timed(before, seen, exposed=exposed) if isinstance(test, AbTest) else before
        result = (abtest.averaged(known, reading, seen, policy.alpha, exposed=exposed) if is_mean(test)
                  else abtest.counted(known, reading, seen, exposed=exposed))
    if isinstance(result, NoData):
        blind[test.called] = result.reason
        return before.model_copy(update={"verdict": "no_data"})
    return result.model_copy(update={"verdict": abtest.verdict(abtest.effect(result, test, policy.alpha), test)})


def _units(
    state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy
) -> tuple[UnitState, UnitCounts | NoData | None]:
    """The counters to remember, and what grew; the split is tested by it once a new weight has settled everywhere."""
    before = state.units
    if before.weight != state.weight:
        before = before.model_copy(update={"weight": state.weight, "since": now})
    if not isinstance(seen.units, UnitReadings):
        return before, seen.units
    if not seen.units.counters:
        return before, NoData("empty", "the gateways do not count what units meet")
    values, counts = counted(before.counters, before.restarts, seen.units)
    split = before.split
    settled = before.since is not None and now - before.since >= 2 * policy.interval
    if state.phase == "progressing" and state.weight > 0 and settled and before.counters:
        weights = _weights(state, seen)
        split = split.updated({version: counts.new(version) for version in weights}, weights, counts.lives)
    return before.model_copy(update={
        "counters": values, "restarts": counts.lives - len(values) if values else 0, "split": split,
    }), counts


def _weights(state: RolloutState, seen: Observation) -> dict[str, float]:
    """The shares of units that the versions are meant to get."""
    share, control = state.weight / FULL_WEIGHT, state.control / FULL_WEIGHT
    arms = {seen.stable: 1.0 - share - control, seen.candidate: share}
    return arms if seen.control is None else {**arms, seen.control: control}


def _odds(state: RolloutState, seen: Observation) -> float:
    """The candidate's share over that of who it is compared with; 0 where nobody is left to compare with."""
    weights = _weights(state, seen)
    return weights[seen.candidate] / weights[seen.baseline] if weights[seen.baseline] > 0 else 0.0


def _met(
    guardrail: Guardrail, state: RolloutState, counts: UnitCounts | NoData | None, *, known: bool
) -> UnitCounts | NoData | None:
    """By which units a guardrail is judged; None where it is judged by requests.

    Args:
        known: the gateways have shown counts of units before. Then their absence is a fault and no old gateway.
    """
    if not can_count(guardrail) or state.shadow > 0:
        return None
    if isinstance(counts, UnitCounts):
        return counts
    reason = counts.reason if counts is not None else "the counts of units were not read"
    if known:
        return NoData("no_units", reason)
    if guardrail.count_by == "unit":
        return NoData("no_units", f"it is counted by unit, and {reason}")
    return None


@dataclass(frozen=True)
class _Look:
    state: RolloutState
    seen: Observation
    units: UnitCounts | None


def _counted(
    before: GuardrailState, reading: tuple[Reading, ...], guardrail: Guardrail, look: _Look
) -> GuardrailState | NoData:
    try:
        counters, counts = increments(before.counters, reading)
    except InconsistentCountersError as error:
        return NoData("inconsistent", str(error))
    after = before.model_copy(update={"counters": counters})
    state, seen, units = look.state, look.seen, look.units
    if not _exposed(state) or not _judged(guardrail, state):
        return after
    stable, candidate = counts.get(seen.baseline, Counts()), counts.get(seen.candidate, Counts())
    evidence = before.evidence.model_copy(update={"counted_by": _counted_by(guardrail, look)}).updated(
        stable, candidate, bounds_of(guardrail), odds=_odds(state, seen),
        units=units.look(guardrail, seen.baseline, seen.candidate) if units else None,
    )
    return after.model_copy(update={"evidence": evidence, "in_step": before.in_step + candidate})


def _remembering(before: GuardrailState, readings: tuple[Reading, ...]) -> GuardrailState:
    """The values to subtract from later, of gateways that do not show the candidate yet.

    Without them the first look at its traffic would take the gateways for new ones, and count nothing.
    """
    return before.model_copy(update={"counters": grown(before.counters, readings)[0]})


def _judged(guardrail: Guardrail, state: RolloutState) -> bool:
    """Whether what the candidate gets now can show anything to this guardrail."""
    return state.shadow == 0 or judges_copies(guardrail)


def _counted_by(guardrail: Guardrail, look: _Look) -> CountedBy:
    """Copies are not dealt out by the split, so they are what they are: requests."""
    if guardrail.count_by == "request" or look.state.shadow > 0:
        return "request"
    return "unit" if look.units is not None else "interval"


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
        name = guardrail.called
        mine = state.guardrails[name]
        if mine.verdict != "harmful":
            continue
        if _over_hard_limit(mine, guardrail):
            limit = f"{mine.in_step.bad} of {mine.in_step.total} requests in this step were bad"
            return Harm(name, "hard_limit", f"{name}: {limit}, the hard limit is {guardrail.hard_limit:.0%}")
        return Harm(name, "e_harm", f"{name}: {_numbers(mine, versus(policy))}; e-value {mine.evidence.e_harm:.3g}, "
                                    f"rollback at {harm_threshold(policy):g}")
    return None


def split_mismatch(state: RolloutState) -> str | None:
    """What is wrong with the split, in words; None while nothing is proved."""
    split = state.units.split
    if not split.mismatched:
        return None
    return (f"invalid: the split is not as meant: {split.words}; e-value {split.e_mismatch:.3g}, mismatch at "
            f"{1 / LEVEL:g}. Look for a gateway with another route table, or for clients that choose their version")


def missing(state: RolloutState) -> list[str]:
    """Per guardrail without data, why; equal reasons once."""
    reasons: dict[str, list[str]] = {}
    for name, reason in state.blind.items():
        reasons.setdefault(reason, []).append(name)
    return [f"no data for {' and '.join(names)} because {reason}" for reason, names in reasons.items()]


def unwatched(state: RolloutState, policy: RolloutPolicy) -> list[str]:
    """What the current step lacks in time and requests."""
    current = policy.stages[state.step - 1]
    lacking = []
    if state.step_seconds < current.min_duration.total_seconds():
        lacking.append(f"{state.step_seconds:.0f} of {current.min_duration.total_seconds():g} s watched")
    requests = _requests(state, policy)
    if requests < current.min_requests:
        lacking.append(f"{requests} of {current.min_requests} requests")
    return lacking


def unproven(state: RolloutState, policy: RolloutPolicy) -> list[str]:
    """What the current step still lacks before the next may begin, beside data."""
    lacking, against = unwatched(state, policy), versus(policy)
    for name in (mine.called for mine in policy.guardrails if _judged(mine, state)):
        guardrail = state.guardrails[name]
        if guardrail.verdict == "undecided":
            lacking.append(f"{name} is undecided: {_numbers(guardrail, against)}, "
                           f"e-value {guardrail.evidence.e_safe:.3g}, safe at {safe_threshold(policy):g}")
    untested = state.ab_test is not None and state.ab_test.verdict != "candidate"
    if policy.ab_test is not None and untested and state.shadow == 0:
        lacking.append(f"the A/B test is undecided: {tested(state, policy)}")
    unmet = [numbers for verdict, word in _UNMET.items() for numbers in objectives_that(state, policy, verdict, word)]
    return [*lacking, *unmet]


def tested(state: RolloutState, policy: RolloutPolicy) -> str:
    """The A/B test's counts and effect in words; empty where there is none."""
    test, mine = policy.ab_test, state.ab_test
    if test is None or mine is None:
        return ""
    return abtest.numbers(mine, abtest.effect(mine, test, policy.alpha), test, versus(policy))


# What an objective that is not met yet is said to be.
_UNMET: dict[AbVerdict, str] = {"undecided": "is undecided", "no_data": "has no data", "stable": "is missed"}


def objectives_that(
    state: RolloutState, policy: RolloutPolicy, verdict: AbVerdict, word: str = ""
) -> list[str]:
    """The numbers of the objectives with a verdict, in words; none before the last step, where they are proved."""
    if state.step < len(policy.stages):
        return []
    return [
        (f"the objective {objective.called} {word}: " if word else "")
        + abtest.numbers(mine, abtest.effect(mine, objective, policy.alpha), objective, versus(policy))
        for objective in policy.objectives if (mine := state.objectives[objective.called]).verdict == verdict
    ]


def favours_stable(state: RolloutState) -> bool:
    """Whether the A/B test has been lost."""
    return state.ab_test is not None and state.ab_test.verdict == "stable"


def _requests(state: RolloutState, policy: RolloutPolicy) -> int:
    """The candidate's in this step, by those guardrails that count requests; without any, by all of them."""
    judged = [guardrail for guardrail in policy.guardrails if _judged(guardrail, state)]
    counting = [guardrail for guardrail in judged if counts_requests(guardrail)] or judged
    return min(state.guardrails[guardrail.called].in_step.total for guardrail in counting)


def progress(state: RolloutState, policy: RolloutPolicy) -> str:
    """Where it stands: ``step 1 of 2 at 20 %``."""
    gets = f"with copies of {state.shadow / 100:g} %" if state.shadow else f"at {state.weight / 100:g} %"
    return f"step {state.step} of {len(policy.stages)} {gets}"


def summary(state: RolloutState, policy: RolloutPolicy) -> dict[str, dict[str, float | str]]:
    """All numbers of the last look per guardrail, and of the A/B test, as stored with each decision."""
    test, mine = policy.ab_test, state.ab_test
    compared = {} if test is None or mine is None else {f"A/B {test.called}": abtest.summary(mine, test, policy.alpha)}
    compared |= {
        f"objective {objective.called}": abtest.summary(state.objectives[objective.called], objective, policy.alpha)
        for objective in policy.objectives
    }
    return compared | {
        name: {
            "stable_bad": guarded.evidence.stable.bad, "stable_total": guarded.evidence.stable.total,
            "candidate_bad": guarded.evidence.candidate.bad, "candidate_total": guarded.evidence.candidate.total,
            "e_harm": guarded.evidence.e_harm, "harm_threshold": harm_threshold(policy),
            "e_safe": guarded.evidence.e_safe, "safe_threshold": safe_threshold(policy), "verdict": guarded.verdict,
            "compared_with": versus(policy), "counted_by": guarded.evidence.counted_by, **_unit_numbers(guarded),
            "e_split": state.units.split.e_mismatch, "split_threshold": 1 / LEVEL,
        }
        for name, guarded in state.guardrails.items()
    }


def _unit_numbers(state: GuardrailState) -> dict[str, float]:
    evidence = state.evidence
    if evidence.counted_by != "unit":
        return {}
    return {
        "stable_bad_units": evidence.stable_units.bad, "stable_units": evidence.stable_units.total,
        "candidate_bad_units": evidence.candidate_units.bad, "candidate_units": evidence.candidate_units.total,
        "clumping": evidence.clumping,
    }


def versus(policy: RolloutPolicy) -> str:
    """The role that the candidate is compared with."""
    return "control" if policy.control else "stable"


def _numbers(state: GuardrailState, against: str) -> str:
    evidence = state.evidence
    requests = (f"candidate {evidence.candidate.bad} bad of {evidence.candidate.total}, "
                f"{against} {evidence.stable.bad} of {evidence.stable.total}")
    if evidence.counted_by != "unit":
        return requests
    return (f"{requests}; users with a bad one: candidate {evidence.candidate_units.bad} of "
            f"{evidence.candidate_units.total}, {against} {evidence.stable_units.bad} of {evidence.stable_units.total}")
