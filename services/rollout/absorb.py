"""What a look does to a rollout's evidence. Pure; used by decide.py. evidence.py says what it then shows."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.rollout import abtest, latency
from services.rollout.analysis import Counts, UnitLook
from services.rollout.analysis.evidence import CountedBy
from services.rollout.counts import InconsistentCountersError, Reading, grown, increments
from services.rollout.evidence import judged, verdict
from services.rollout.guardrails import bounds_of, is_mean
from services.rollout.observation import Observation
from services.rollout.samples import NoData
from services.rollout.state import FULL_WEIGHT, GuardrailState, ObjectiveState, RolloutState, UnitState
from services.rollout.unit_counts import UnitCounts, UnitReadings, can_count, can_pair, counted
from shared.pipeline import Guardrail, RolloutPolicy


@dataclass(frozen=True)
class _Look:
    """One look at one rollout.

    Attributes:
        state: before it.
        counts: what grew of the units, why that is not known, or None where it was not read.
        counted_before: the gateways have shown counts of units before. Then their absence is a fault and no old
            gateway.
    """

    state: RolloutState
    seen: Observation
    counts: UnitCounts | NoData | None
    counted_before: bool


def absorb(state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy) -> RolloutState:
    """The state with this look's increments in its evidence, and its time counted if all data was there.

    While the candidate gets nothing the counters are only remembered, as the values to subtract from later; so are
    those of guardrails that copies cannot show, while it gets only copies.
    """
    blind: dict[str, str] = {}
    units, counts = _units(state, seen, now, policy)
    look = _Look(state, seen, counts, bool(units.counters))
    guardrails = {guardrail.called: _guarded(guardrail, look, policy, blind) for guardrail in policy.guardrails}
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
        "users": _users(look), "units": units, "latencies": latency.counted(state.latencies, seen),
    })


def _guarded(guardrail: Guardrail, look: _Look, policy: RolloutPolicy, blind: dict[str, str]) -> GuardrailState:
    """A guardrail after this look; why it has no data goes to `blind`."""
    name, judging = guardrail.called, judged(guardrail, look.state)
    before, reading = _paired(guardrail, look, policy), look.seen.readings.get(name)
    if reading is None:
        if judging:
            blind[name] = "it was not read"
        return before
    if isinstance(reading, NoData):
        result: GuardrailState | NoData = reading
        if not _exposed(look.state):
            before = _remembering(before, reading.others)
    else:
        met = _met(guardrail, look)
        result = met if isinstance(met, NoData) else _counted(before, reading, guardrail, look, met)
    if not isinstance(result, NoData):
        return result.model_copy(update={"verdict": verdict(result, guardrail, policy)}) if judging else result
    if not judging:
        return before
    blind[name] = result.reason
    return before.model_copy(update={"verdict": "no_data"})


def _paired(guardrail: Guardrail, look: _Look, policy: RolloutPolicy) -> GuardrailState:
    """A guardrail before this look's counters, with what the pairs of answers of a step with copies say."""
    before, counts, state = look.state.guardrails[guardrail.called], look.counts, look.state
    if state.shadow == 0 or not _exposed(state) or not can_pair(guardrail) or not isinstance(counts, UnitCounts):
        return before
    pairs = counts.pairs(guardrail, look.seen.stable, look.seen.candidate)
    after = before.model_copy(update={"evidence": before.evidence.paired(pairs)})
    return after.model_copy(update={"verdict": verdict(after, guardrail, policy)})


def _exposed(state: RolloutState) -> bool:
    return (state.weight > 0 or state.shadow > 0) and state.phase in ("progressing", "paused")


def _compared(
    test: abtest.Goal, before: ObjectiveState, look: _Look, policy: RolloutPolicy, blind: dict[str, str]
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
        result = (abtest.averaged(before, reading, seen, policy.alpha, exposed=exposed) if is_mean(test)
                  else abtest.counted(before, reading, seen, exposed=exposed, units=_unit_look(test, look)))
    if isinstance(result, NoData):
        blind[test.called] = result.reason
        return before.model_copy(update={"verdict": "no_data"})
    return result.model_copy(update={"verdict": abtest.verdict(abtest.effect(result, test, policy.alpha), test)})


def _unit_look(test: abtest.Goal, look: _Look) -> UnitLook | None:
    if not can_count(test) or not isinstance(look.counts, UnitCounts):
        return None
    return look.counts.look(test, look.seen.baseline, look.seen.candidate)


def _units(
    state: RolloutState, seen: Observation, now: datetime, policy: RolloutPolicy
) -> tuple[UnitState, UnitCounts | NoData | None]:
    """What to remember, and what grew; the split is tested by it once a new weight has settled everywhere."""
    before = state.units
    if before.weight != state.weight:
        before = before.model_copy(update={"weight": state.weight, "since": now})
    if not isinstance(seen.units, UnitReadings):
        return before, seen.units
    if not seen.units.counters:
        return before, NoData("empty", "the gateways do not count what units meet")
    after, counts = counted(before, seen.units)
    settled = before.since is not None and now - before.since >= 2 * policy.interval
    if state.phase == "progressing" and state.weight > 0 and settled and before.counters:
        weights = _weights(state, seen)
        new = {version: counts.new.get(version, 0) for version in weights}
        split = before.split.updated(new, weights)
        after = after.model_copy(update={"split": split})
    return after, counts


def _users(look: _Look) -> int | None:
    """Distinct units that got the candidate, the last known number."""
    if look.state.exposed_from is None or not isinstance(look.counts, UnitCounts):
        return look.state.users
    return look.counts.served.get(look.seen.candidate, 0)


def _weights(state: RolloutState, seen: Observation) -> dict[str, float]:
    """The shares of units that the versions are meant to get."""
    share, control = state.weight / FULL_WEIGHT, state.control / FULL_WEIGHT
    arms = {seen.stable: 1.0 - share - control, seen.candidate: share}
    return arms if seen.control is None else {**arms, seen.control: control}


def _odds(state: RolloutState, seen: Observation) -> float:
    """The candidate's share over that of who it is compared with; 0 where nobody is left to compare with."""
    weights = _weights(state, seen)
    return weights[seen.candidate] / weights[seen.baseline] if weights[seen.baseline] > 0 else 0.0


def _met(guardrail: Guardrail, look: _Look) -> UnitCounts | NoData | None:
    """By which units a guardrail is judged; None where it is judged by requests, or by pairs, which are there."""
    copies = look.state.shadow > 0
    if not (can_pair(guardrail) if copies else can_count(guardrail)):
        return None
    if isinstance(look.counts, UnitCounts):
        known = guardrail.count_by == "unit" or look.counts.knows(guardrail)
        return look.counts if known and not copies else None
    reason = look.counts.reason if look.counts is not None else "the counts of units were not read"
    if look.counted_before:
        return NoData("no_units", reason)
    if guardrail.count_by == "unit" and not copies:
        return NoData("no_units", f"it is counted by unit, and {reason}")
    return None


def _counted(
    before: GuardrailState, reading: tuple[Reading, ...], guardrail: Guardrail, look: _Look, units: UnitCounts | None
) -> GuardrailState | NoData:
    try:
        counters, counts = increments(before.counters, reading)
    except InconsistentCountersError as error:
        return NoData("inconsistent", str(error))
    after = before.model_copy(update={"counters": counters})
    state, seen = look.state, look.seen
    if not _exposed(state) or not judged(guardrail, state):
        return after
    stable, candidate = counts.get(seen.baseline, Counts()), counts.get(seen.candidate, Counts())
    counted_by = _counted_by(guardrail, before, look, units)
    evidence = before.evidence.model_copy(update={"counted_by": counted_by}).updated(
        stable, candidate, bounds_of(guardrail), odds=_odds(state, seen),
        units=units.look(guardrail, seen.baseline, seen.candidate) if units else None,
    )
    return after.model_copy(update={"evidence": evidence, "in_step": before.in_step + candidate})


def _remembering(before: GuardrailState, readings: tuple[Reading, ...]) -> GuardrailState:
    """The values to subtract from later, of gateways that do not show the candidate yet.

    Without them the first look at its traffic would take the gateways for new ones, and count nothing.
    """
    return before.model_copy(update={"counters": grown(before.counters, readings)[0]})


def _counted_by(guardrail: Guardrail, before: GuardrailState, look: _Look, units: UnitCounts | None) -> CountedBy:
    """Copies are not dealt out by the split: they are pairs, or what they are themselves, requests."""
    if look.state.shadow > 0 and before.evidence.counted_by == "pair":
        return "pair"
    if guardrail.count_by == "request" or look.state.shadow > 0:
        return "request"
    return "unit" if units is not None else "interval"
