"""What the gateways count of units (users, sessions, or requests that name none), and what a look makes of it. Pure.

A unit is what the split deals out, so it is what harm is proved by. Each gateway tells of a unit that meets something
bad (shared/gateway_metrics.py), and the controller counts each once (met_units.py). New units, by which the split is
tested, are too many to be told of: each gateway counts them, and a unit that met two of them was counted twice.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.rollout.analysis import PairLook, UnitLook
from services.rollout.counts import Reading, grown
from services.rollout.samples import NoData, Sample
from services.rollout.state import UnitState
from shared.events import CountedEvent
from shared.gateway_metrics import COUNTED_BY_UNIT, EVENT_NEW, PAIRED, UNIT_TIMES, pair_event
from shared.pipeline import Guardrail, RolloutPolicy


@dataclass(frozen=True)
class UnitReadings:
    """The counts of a look.

    Attributes:
        counters: raw values of the gateways' counters of new units.
        seen: distinct units by version under the present salt, summed over gateways.
        met: distinct units of all gateways, by version and `cell`.
    """

    counters: tuple[Reading, ...] = ()
    seen: Mapping[str, int] = field(default_factory=dict)
    met: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitCounts:
    """The increments of a look.

    Attributes:
        new: units by the version that was the first of the route to serve them, as each gateway knows it.
        met: by version and cell.
        seen: as in `UnitReadings`.
        lives: gateways that ever were, and their restarts: each counts a unit anew.
    """

    new: Mapping[str, int]
    met: Mapping[tuple[str, str], int]
    seen: Mapping[str, int]
    lives: int

    def look(self, guardrail: Guardrail, stable: str, candidate: str) -> UnitLook:
        """What this look says about one guardrail."""
        def met(version: str) -> tuple[int, ...]:
            return tuple(self.met.get((version, cell_of(guardrail, times)), 0) for times in UNIT_TIMES)

        return UnitLook(
            stable=met(stable), candidate=met(candidate), stable_seen=self.seen.get(stable, 0),
            candidate_seen=self.seen.get(candidate, 0),
        )

    def pairs(self, guardrail: Guardrail, stable: str, candidate: str) -> PairLook:
        """Units of this look whose two answers differed for the first time, by whose was the bad one."""
        name = cell(pair_event(guardrail.metric), "", 1)
        return PairLook(stable=self.met.get((stable, name), 0), candidate=self.met.get((candidate, name), 0))


def can_count(guardrail: Guardrail) -> bool:
    """Whether the gateways count units by what this guardrail calls bad, and it does not ask for requests."""
    return guardrail.metric in COUNTED_BY_UNIT and guardrail.count_by != "request"


def can_pair(guardrail: Guardrail) -> bool:
    """Whether the gateways compare answers by what this guardrail calls bad, and it does not ask for requests."""
    return guardrail.metric in PAIRED and guardrail.count_by != "request"


def counted_events(policy: RolloutPolicy) -> list[CountedEvent]:
    """What gateways shall tell of for the policy's guardrails."""
    met = [CountedEvent(event=guardrail.metric, seconds=guardrail.slo_seconds)
           for guardrail in policy.guardrails if can_count(guardrail)]
    pairs = [CountedEvent(event=pair_event(guardrail.metric))
             for guardrail in policy.guardrails if policy.shadow is not None and can_pair(guardrail)]
    return met + pairs


def cell(event: str, bound: str, times: int) -> str:
    """The name of one of a version's counters."""
    return f"{event}>{bound} x{times}" if bound else f"{event} x{times}"


def cell_of(guardrail: Guardrail, times: int) -> str:
    """Of units that met a guardrail's bad events so many times."""
    return cell(guardrail.metric, _bound(guardrail), times)


def readings_of(
    counters: Sequence[Sample], seen: Sequence[Sample], met: Mapping[tuple[str, str], int]
) -> UnitReadings | NoData:
    """The counters and gauges of a look with what the units met, or why they are no data."""
    for sample in (*counters, *seen):
        if not math.isfinite(sample.value) or sample.value < 0:
            return NoData("invalid", f"the count of units {sample.labels} has the value {sample.value}")
    try:
        readings = tuple(
            Reading(target=sample.target, version=sample.labels["model_version"], value=sample.value, bad=0, total=1,
                    cell=cell(EVENT_NEW, "", 1))
            for sample in counters
        )
        units: dict[str, int] = {}
        for sample in seen:
            version = sample.labels["model_version"]
            units[version] = units.get(version, 0) + round(sample.value)
    except KeyError as error:
        return NoData("malformed", f"a count of units has no label {error}")
    return UnitReadings(readings, units, met)


def counted(before: UnitState, readings: UnitReadings) -> tuple[UnitState, UnitCounts]:
    """The values to remember, and the look's increments."""
    values, growth, restarted = grown(before.counters, readings.counters)
    new: dict[str, int] = {}
    for reading, more in zip(readings.counters, growth, strict=True):
        new[reading.version] = new.get(reading.version, 0) + round(more)
    met = {(version, name): units - before.met.get(version, {}).get(name, 0)
           for (version, name), units in readings.met.items()}
    known: dict[str, dict[str, int]] = {}
    for (version, name), units in readings.met.items():
        known.setdefault(version, {})[name] = units
    restarts = before.restarts + len(restarted)
    after = before.model_copy(update={"counters": values, "restarts": restarts, "met": known})
    return after, UnitCounts(new, met, readings.seen, max(1, len(values) + restarts))


def _bound(guardrail: Guardrail) -> str:
    return "" if guardrail.slo_seconds is None else f"{guardrail.slo_seconds:g}"
