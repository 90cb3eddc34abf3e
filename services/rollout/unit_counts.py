"""What the gateways count of units (users, sessions, or requests that name none), and what a look makes of it. Pure.

A unit is what the split deals out, so it is what harm is proved by and what the split is tested by. Each gateway tells
of a unit that it serves, or that meets something bad (shared/gateway_metrics.py), and the controller counts each once,
however many gateways there are (met_units.py). A request that names no unit is one, and comes to one gateway: of those
the gateways' counters are added up.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.rollout.analysis import PairLook, UnitLook
from services.rollout.counts import Reading, grown
from services.rollout.samples import NoData, Sample
from services.rollout.state import UnitState
from shared.events import CountedEvent
from shared.gateway_metrics import (
    COUNTED_BY_UNIT,
    EVENT_JUDGED,
    EVENT_SERVED,
    EVENT_THUMBS_DOWN,
    EVENT_UNNAMED,
    PAIRED,
    UNIT_TIMES,
    pair_event,
)
from shared.pipeline import Counted, Guardrail, RolloutPolicy


@dataclass(frozen=True)
class UnitReadings:
    """The counts of a look.

    Attributes:
        counters: raw values of the gateways' counters of unnamed units.
        met: distinct units of all gateways, by version and `cell`.
    """

    counters: tuple[Reading, ...] = ()
    met: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitCounts:
    """The increments of a look.

    Attributes:
        new: units by the version that was the first of the route to serve them.
        met: by version and cell.
        served: distinct units by version; no increments, but all since the rollout began.
        judged: the same of units whose answers were judged, each with the version of the first that was.
    """

    new: Mapping[str, int]
    met: Mapping[tuple[str, str], int]
    served: Mapping[str, int]
    judged: Mapping[str, int]

    def knows(self, what: Counted) -> bool:
        """Whether gateways tell of what this calls bad: of judgements those of an earlier release do not, nor those
        of a rollout that began under it. They do as soon as anybody who judged is known."""
        return what.metric != EVENT_THUMBS_DOWN or any(self.judged.values())

    def look(self, what: Counted, stable: str, candidate: str) -> UnitLook:
        """What this look says about one guardrail, A/B test or objective.

        Bad judgements are some of all judgements, as bad requests are some of all requests, so the units that they
        could have fallen on are those that were judged. With all that were served, few of whom ever judge, it would
        seem that each brings less than one event, and next to nothing would be assumed of clumps that were not seen.
        """
        def met(version: str) -> tuple[int, ...]:
            return tuple(self.met.get((version, cell_of(what, times)), 0) for times in UNIT_TIMES)

        seen = self.judged if what.metric == EVENT_THUMBS_DOWN else self.served
        return UnitLook(
            stable=met(stable), candidate=met(candidate), stable_seen=seen.get(stable, 0),
            candidate_seen=seen.get(candidate, 0),
        )

    def pairs(self, guardrail: Guardrail, stable: str, candidate: str) -> PairLook:
        """Units of this look whose two answers differed for the first time, by whose was the bad one."""
        name = cell(pair_event(guardrail.metric), "", 1)
        return PairLook(stable=self.met.get((stable, name), 0), candidate=self.met.get((candidate, name), 0))


def can_count(what: Counted) -> bool:
    """Whether the gateways count units by what this calls bad, and it does not ask for requests."""
    by_request = isinstance(what, Guardrail) and what.count_by == "request"
    return what.metric in COUNTED_BY_UNIT and not by_request


def can_pair(guardrail: Guardrail) -> bool:
    """Whether the gateways compare answers by what this guardrail calls bad, and it does not ask for requests."""
    return guardrail.metric in PAIRED and guardrail.count_by != "request"


def counted_events(policy: RolloutPolicy) -> list[CountedEvent]:
    """What gateways shall tell of: whom they serve, what the policy calls bad, and of judgements the others, too."""
    served = [CountedEvent(event=EVENT_SERVED)]
    asked = {what.called: what for what in (*policy.guardrails, *policy.goals) if can_count(what)}
    met = [CountedEvent(event=what.metric, seconds=what.slo_seconds) for what in asked.values()]
    judged = [CountedEvent(event=EVENT_JUDGED)] if EVENT_THUMBS_DOWN in asked else []
    pairs = [CountedEvent(event=pair_event(guardrail.metric))
             for guardrail in policy.guardrails if policy.shadow is not None and can_pair(guardrail)]
    return served + met + judged + pairs


def cell(event: str, bound: str, times: int) -> str:
    """The name of one of a version's counters."""
    return f"{event}>{bound} x{times}" if bound else f"{event} x{times}"


# Units that a version has served, each once for it; those of them that no other version had served; and those that are
# requests without a name. Those whose answers were judged, each once for the whole route.
SERVED, NEW, UNNAMED, JUDGED = (cell(event, "", 1) for event in (EVENT_SERVED, "new", EVENT_UNNAMED, EVENT_JUDGED))


def cell_of(what: Counted, times: int) -> str:
    """Of units that met its bad events so many times."""
    return cell(what.metric, _bound(what), times)


def readings_of(counters: Sequence[Sample], met: Mapping[tuple[str, str], int]) -> UnitReadings | NoData:
    """The counters of a look with what the units met, or why they are no data."""
    for sample in counters:
        if not math.isfinite(sample.value) or sample.value < 0:
            return NoData("invalid", f"the count of units {sample.labels} has the value {sample.value}")
    try:
        readings = tuple(
            Reading(target=sample.target, version=sample.labels["model_version"], value=sample.value, bad=0, total=1,
                    cell=UNNAMED)
            for sample in counters
        )
    except KeyError as error:
        return NoData("malformed", f"a count of units has no label {error}")
    return UnitReadings(readings, met)


def counted(before: UnitState, readings: UnitReadings) -> tuple[UnitState, UnitCounts]:
    """The values to remember, and the look's increments."""
    values, growth = grown(before.counters, readings.counters)
    unnamed: Counter[str] = Counter()
    for reading, more in zip(readings.counters, growth, strict=True):
        unnamed[reading.version] += round(more)
    met = {(version, name): units - before.met.get(version, {}).get(name, 0)
           for (version, name), units in readings.met.items()}
    known: dict[str, dict[str, int]] = {}
    for (version, name), units in readings.met.items():
        known.setdefault(version, {})[name] = units
    all_unnamed = unnamed + Counter(before.unnamed)
    after = before.model_copy(update={"counters": values, "unnamed": dict(all_unnamed), "met": known})
    return after, UnitCounts(
        new=unnamed + _only(NEW, met), met=met, served=all_unnamed + _only(SERVED, readings.met),
        judged=_only(JUDGED, readings.met),
    )


def _only(name: str, met: Mapping[tuple[str, str], int]) -> Counter[str]:
    """One cell of all versions."""
    return Counter({version: units for (version, of), units in met.items() if of == name})


def _bound(what: Counted) -> str:
    return "" if what.slo_seconds is None else f"{what.slo_seconds:g}"
