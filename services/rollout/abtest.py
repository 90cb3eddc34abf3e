"""What decides A/B tests and objectives: the difference of two shares, with a confidence sequence around it. Pure.

The interval of `difference_interval` holds at all times at once with probability 1 - `alpha`, so the test may be looked
at after each scrape and ended as soon as the interval lies on one side of its bound. Whatever the true difference is,
the chance that the answer is ever wrong is at most `alpha`.

Events of one user are not independent. Where gateways count users by them, the interval is that of independent events,
but wider by as much as bad ones cling to users (proportions.py, clumps.py). Where nothing names a user, it is joined
with one for which each look is one observation (asymptotic.py): so it holds if events are independent or come together
within looks, and not if the same users meet them look after look. Means have a betting interval (bounded.py).
"""

from functools import lru_cache

from services.rollout.analysis import Counts, Interval, UnitLook
from services.rollout.analysis.asymptotic import LEAST
from services.rollout.analysis.bounded import BettingMean, mean_difference
from services.rollout.analysis.proportions import difference_interval
from services.rollout.counts import InconsistentCountersError, Reading, increments, sums
from services.rollout.guardrails import is_mean
from services.rollout.observation import Observation
from services.rollout.samples import NoData
from services.rollout.state import AbVerdict, ObjectiveState
from services.rollout.unit_counts import can_count
from shared.pipeline import AbTest, Objective

Goal = AbTest | Objective


def counted(
    before: ObjectiveState, reading: tuple[Reading, ...], seen: Observation, *, exposed: bool,
    units: UnitLook | None = None,
) -> ObjectiveState | NoData:
    """The state with this look's events; while the candidate has no traffic the counters are only remembered.

    Args:
        units: who met the bad ones, where gateways count that.
    """
    try:
        counters, counts = increments(before.counters, reading)
    except InconsistentCountersError as error:
        return NoData("inconsistent", str(error))
    if not exposed:
        return before.model_copy(update={"counters": counters})
    stable, candidate = counts.get(seen.baseline, Counts()), counts.get(seen.candidate, Counts())
    return before.model_copy(update={
        "counters": counters, "stable": before.stable + stable, "candidate": before.candidate + candidate,
        "clumps": before.clumps.updated(stable, candidate, units), "looks": before.looks.updated(stable, candidate),
    })


def averaged(
    before: ObjectiveState, reading: tuple[Reading, ...], seen: Observation, alpha: float, *, exposed: bool
) -> ObjectiveState:
    """As `counted`, of a mean. Each look's mean is one more value, as bounded as a score and with the same expectation.

    Args:
        alpha: for the difference of both.
    """
    counters, found = sums(before.counters, reading)
    if not exposed:
        return before.model_copy(update={"counters": counters})
    means, total, counts = dict(before.means), dict(before.sums), {}
    for role, version, known in (("stable", seen.baseline, before.stable),
                                 ("candidate", seen.candidate, before.candidate)):
        summed, number = found.get(version, (0.0, 0.0))
        mean = means.get(role, BettingMean(alpha=alpha / 2))
        # The sum and the number are two counters, of which a scrape may see one a moment before the other.
        means[role] = mean.updated([min(1.0, max(0.0, summed / number))]) if number > 0 else mean
        total[role] = total.get(role, 0.0) + summed
        judged = known.total + round(number)
        counts[role] = Counts(bad=min(judged, round(total[role])), total=judged)
    return before.model_copy(update={"counters": counters, "means": means, "sums": total, **counts})


def effect(state: ObjectiveState, test: Goal, alpha: float) -> Interval:
    """By how much the candidate's share is better than stable's; negative where it is worse."""
    if state.means:
        return mean_difference(state.means["stable"], state.means["candidate"])
    found = _difference(state.stable, state.candidate, state.clumps.level(alpha))
    if not can_count(test):
        # Alone it would be half as wide as for independent events, which leaves no room for users who come again.
        found = found.joined(state.looks.interval(alpha))
    return found if test.direction == "higher" else found.opposite


# A look asks for the same interval some times: to judge it, to say it, to store it and to show it.
_difference = lru_cache(maxsize=256)(difference_interval)


def verdict(found: Interval, test: Goal) -> AbVerdict:
    """Which version the interval favours, if it does."""
    if found.low > test.bound:
        return "candidate"
    return "stable" if found.high < test.bound else "undecided"


def numbers(state: ObjectiveState, found: Interval, test: Goal, against: str = "stable") -> str:
    """The counts and the effect in words.

    Args:
        against: the role that the candidate is compared with.
    """
    sides = ", ".join(
        f"{name} {counts.bad} of {counts.total} ({counts.rate:.1%})"
        for name, counts in (("candidate", state.candidate), (against, state.stable))
    )
    estimate = "unknown" if found.estimate is None else f"{100 * found.estimate:+.1f}"
    return (f"{test.called} (better is {test.direction}): {sides}, better by {estimate} points, surely between "
            f"{100 * found.low:+.1f} and {100 * found.high:+.1f}; decided beyond {100 * test.bound:g}"
            f"{_early(state, test)}")


def _early(state: ObjectiveState, test: Goal) -> str:
    """Why nothing is sure yet of what names no user, in words; empty where looks are enough."""
    worth = state.looks.of_equal_size
    if can_count(test) or is_mean(test) or worth >= LEAST:
        return ""
    return (f". No users are counted by it, so it needs {LEAST:g} looks of equal size; those so far are worth "
            f"{worth:.0f}")


def summary(state: ObjectiveState, test: Goal, alpha: float) -> dict[str, float | str]:
    """All numbers of the last look, as stored with each decision; differences are in the direction that is better."""
    found = effect(state, test, alpha)
    return {
        "stable_bad": state.stable.bad, "stable_total": state.stable.total,
        "candidate_bad": state.candidate.bad, "candidate_total": state.candidate.total,
        "effect": 0.0 if found.estimate is None else found.estimate, "effect_low": found.low,
        "effect_high": found.high, "min_effect": test.bound, "verdict": state.verdict,
    }
