"""What a rollout's evidence says: verdicts, and in words what is proved and what lacks. Pure; used by decide.py."""

from dataclasses import dataclass

from services.rollout import abtest
from services.rollout.analysis.sample_ratio import LEVEL
from services.rollout.guardrails import counts_requests, judges_copies
from services.rollout.state import (
    AbVerdict,
    GuardrailState,
    RolloutState,
    Verdict,
)
from shared.pipeline import Guardrail, RolloutPolicy


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


def judged(guardrail: Guardrail, state: RolloutState) -> bool:
    """Whether what the candidate gets now can show anything to this guardrail."""
    return state.shadow == 0 or judges_copies(guardrail)


def verdict(state: GuardrailState, guardrail: Guardrail, policy: RolloutPolicy) -> Verdict:
    """What a guardrail shows after a look that had data."""
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
    for name in (mine.called for mine in policy.guardrails if judged(mine, state)):
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
    judging = [guardrail for guardrail in policy.guardrails if judged(guardrail, state)]
    counting = [guardrail for guardrail in judging if counts_requests(guardrail)] or judging
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
    if evidence.counted_by == "pair":
        return {"candidate_alone_bad": evidence.pairs.candidate, "stable_alone_bad": evidence.pairs.stable}
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
    if evidence.counted_by == "pair":
        pairs = (f"users for whom only one of the two answers was bad: the candidate's {evidence.pairs.candidate}, "
                 f"stable's {evidence.pairs.stable}")
        return f"{requests}; {pairs}" if evidence.candidate.total else pairs
    if evidence.counted_by != "unit":
        return requests
    return (f"{requests}; users with a bad one: candidate {evidence.candidate_units.bad} of "
            f"{evidence.candidate_units.total}, {against} {evidence.stable_units.bad} of {evidence.stable_units.total}")
