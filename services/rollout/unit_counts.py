"""What the gateways count of units (users, sessions, or requests that name none), and what a look makes of it. Pure.

A unit is what the split deals out, so it is what harm is proved by. The gateways count it once for each kind of event
(shared/gateway_metrics.py); here their counters become increments by version.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.rollout.analysis import UnitLook
from services.rollout.counts import Reading, Values, grown
from services.rollout.samples import NoData, Sample
from shared.gateway_metrics import COUNTED_BY_UNIT, EVENT_NEW, UNIT_EVENTS, UNIT_TIMES
from shared.pipeline import Guardrail, RolloutPolicy


@dataclass(frozen=True)
class UnitReadings:
    """The counters of a look.

    Attributes:
        counters: their raw values; `cell` is as in `cell`.
        seen: distinct units by version under the present salt, summed over gateways.
    """

    counters: tuple[Reading, ...] = ()
    seen: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitCounts:
    """The increments of a look.

    Attributes:
        grown: by version and cell.
        seen: as in `UnitReadings`.
        lives: gateways that ever were, and their restarts.
    """

    grown: Mapping[tuple[str, str], int]
    seen: Mapping[str, int]
    lives: int

    def new(self, version: str) -> int:
        """Units that the version was the first of the route to serve."""
        return self.grown.get((version, cell(EVENT_NEW, "", 1)), 0)

    def look(self, guardrail: Guardrail, stable: str, candidate: str) -> UnitLook:
        """What this look says about one guardrail."""
        def met(version: str) -> tuple[int, ...]:
            return tuple(self.grown.get((version, cell_of(guardrail, times)), 0) for times in UNIT_TIMES)

        return UnitLook(
            stable=met(stable), candidate=met(candidate), stable_seen=self.seen.get(stable, 0),
            candidate_seen=self.seen.get(candidate, 0), lives=self.lives,
        )


def can_count(guardrail: Guardrail) -> bool:
    """Whether the gateways count units by what this guardrail calls bad, and it does not ask for requests."""
    return guardrail.metric in COUNTED_BY_UNIT and guardrail.count_by != "request"


def selector_of(policy: RolloutPolicy, route: str) -> str:
    """PromQL selector of the unit counters that the policy's guardrails need, and of new units."""
    wanted = [guardrail for guardrail in policy.guardrails if can_count(guardrail)]
    events = "|".join(sorted({EVENT_NEW, *(guardrail.metric for guardrail in wanted)}))
    bounds = "|".join(sorted({"", *(_bound(guardrail) for guardrail in wanted)}))
    return f'{UNIT_EVENTS}{{route="{route}",event=~"{events}",le=~"{bounds}"}}'


def cell(event: str, bound: str, times: int) -> str:
    """The name of one of a version's counters."""
    return f"{event}>{bound} x{times}" if bound else f"{event} x{times}"


def cell_of(guardrail: Guardrail, times: int) -> str:
    """Of units that met a guardrail's bad events so many times."""
    return cell(guardrail.metric, _bound(guardrail), times)


def readings_of(counters: Sequence[Sample], seen: Sequence[Sample]) -> UnitReadings | NoData:
    """The samples of `selector_of` and of the gauge of units seen, or why they are no data."""
    for sample in (*counters, *seen):
        if not math.isfinite(sample.value) or sample.value < 0:
            return NoData("invalid", f"the count of units {sample.labels} has the value {sample.value}")
    try:
        readings = tuple(
            Reading(
                target=sample.target, version=sample.labels["model_version"], value=sample.value, bad=0, total=1,
                cell=cell(sample.labels["event"], sample.labels.get("le", ""), int(sample.labels["times"])),
            )
            for sample in counters
        )
        units: dict[str, int] = {}
        for sample in seen:
            version = sample.labels["model_version"]
            units[version] = units.get(version, 0) + round(sample.value)
    except (KeyError, ValueError) as error:
        return NoData("malformed", f"a count of units has no good label {error}")
    return UnitReadings(readings, units)


def counted(last: Values, restarts: int, readings: UnitReadings) -> tuple[dict[str, dict[str, float]], UnitCounts]:
    """The values to remember, and the look's increments.

    Args:
        last: the remembered values.
        restarts: of gateways, before this look.
    """
    values, growth, restarted = grown(last, readings.counters)
    counts: dict[tuple[str, str], int] = {}
    for reading, more in zip(readings.counters, growth, strict=True):
        key = reading.version, reading.cell
        counts[key] = counts.get(key, 0) + round(more)
    return values, UnitCounts(counts, readings.seen, max(1, len(values) + restarts + len(restarted)))


def _bound(guardrail: Guardrail) -> str:
    return "" if guardrail.slo_seconds is None else f"{guardrail.slo_seconds:g}"
