"""Counts of units by what they met: what rollouts are judged by, because a unit is what the split deals out.

A user for whom every request fails is one user and not a hundred failures. So a unit counts once, with the version that
it met its first bad event with, whichever versions it has had before; and again at its fourth and sixteenth,
which tell versions apart where nearly every unit has soon met one. All is forgotten with the route's salt.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from services.gateway.plan import Plan
from shared.gateway_metrics import COUNTED_BY_UNIT, EVENT_ERRORS, EVENT_NEW, SLO_BOUNDS, UNIT_EVENTS, UNIT_TIMES

# Event, `le`, and `times`, as the series' labels have them.
Cell = tuple[str, str, str]
_MOST = UNIT_TIMES[-1]
_BOUNDS: dict[str, Sequence[float]] = {event: SLO_BOUNDS.get(event, ()) for event in COUNTED_BY_UNIT}
_TIMES = {times: str(times) for times in UNIT_TIMES}


class UnitTimes:
    """How often each unit exceeded each bound, up to the last of `UNIT_TIMES`. Pure.

    Args:
        bounds: rising; no bounds at all: an event is an event.
        limit: units that are known; further ones are not counted.
    """

    __slots__ = ("_bounds", "_limit", "_times")

    def __init__(self, bounds: Sequence[float], limit: int) -> None:
        self._bounds = bounds
        self._limit = limit
        self._times: dict[int, bytearray] = {}

    def met(self, unit: int, value: float = 0.0) -> list[tuple[int, int]]:
        """Count a value of a unit; which bounds (by index) it has now exceeded so-many times, where that is new."""
        exceeded = bisect_left(self._bounds, value) if self._bounds else 1
        if exceeded == 0:
            return []
        times = self._times.get(unit)
        if times is None:
            if len(self._times) >= self._limit:
                return []
            times = self._times[unit] = bytearray(max(len(self._bounds), 1))
        reached = []
        for index in range(exceeded):
            if times[index] < _MOST:
                times[index] += 1
                if times[index] in _TIMES:
                    reached.append((index, times[index]))
        return reached


class UnitEvents(Collector):
    """The units of all routes, and their counts as one counter. On one thread, but for `collect`.

    Args:
        limit: units per route and kind of event that are known.
        now: seconds on the clock that says when exchanges began.
    """

    def __init__(self, registry: CollectorRegistry, limit: int, now: Callable[[], float] = time.perf_counter) -> None:
        self._limit = limit
        self._now = now
        self._salts: dict[str, tuple[str, float]] = {}
        self._units: dict[str, dict[str, UnitTimes]] = {}
        self._counts: dict[tuple[str, str], dict[Cell, int]] = {}
        registry.register(self)

    def use(self, plan: Plan) -> None:
        """Serve these routes from now on; a new salt begins anew. Counters of versions stay: they only go up."""
        for name, route in plan.routes.items():
            if self._salts.get(name, ("", 0.0))[0] != route.spec.salt:
                self._salts[name] = route.spec.salt, self._now()
                self._units[name] = {event: UnitTimes(bounds, self._limit) for event, bounds in _BOUNDS.items()}
            for target in route.targets.values():
                self._counts.setdefault((name, target.label), {(EVENT_NEW, "", "1"): 0})
        for gone in self._salts.keys() - plan.routes.keys():
            del self._salts[gone], self._units[gone]

    def remove(self, route: str, label: str) -> None:
        """Forget the counts of a version."""
        self._counts.pop((route, label), None)

    def new(self, route: str, label: str) -> None:
        """A unit came that no version of the route had served under this salt."""
        self._count(route, label, (EVENT_NEW, "", "1"))

    def failed(self, route: str, label: str, unit: int, begun: float) -> None:
        """A unit's request failed, and not by its own fault.

        Args:
            begun: when; a request that began under another salt is left out, because it has another fingerprint.
        """
        for _, times in self._met(route, EVENT_ERRORS, unit, 0.0, begun):
            self._count(route, label, (EVENT_ERRORS, "", _TIMES[times]))

    def slow(self, route: str, label: str, unit: int, begun: float, *, event: str, seconds: float) -> None:
        """A unit was kept waiting so long, by one of the events that have bounds."""
        for index, times in self._met(route, event, unit, seconds, begun):
            self._count(route, label, (event, f"{_BOUNDS[event][index]:g}", _TIMES[times]))

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What is exposed. A cell that nothing was counted in is not there, but for those of new units."""
        family = CounterMetricFamily(
            UNIT_EVENTS, "Units by what they met, once each under a route's salt",
            labels=["route", "model_version", "event", "le", "times"],
        )
        for key, cells in tuple(self._counts.items()):
            for cell, count in tuple(cells.items()):
                family.add_metric([*key, *cell], count)
        yield family

    def _met(self, route: str, event: str, unit: int, value: float, begun: float) -> list[tuple[int, int]]:
        known = self._units.get(route)
        return [] if known is None or begun < self._salts[route][1] else known[event].met(unit, value)

    def _count(self, route: str, label: str, cell: Cell) -> None:
        cells = self._counts.get((route, label))
        if cells is not None:
            cells[cell] = cells.get(cell, 0) + 1
