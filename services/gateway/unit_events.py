"""Counts of units by what they met: what rollouts are judged by, because a unit is what the split deals out.

A user for whom every request fails is one user and not a hundred failures. So a unit counts once, with the version that
it met its first bad event with, whichever versions it has had before; and again at its fourth and sixteenth,
which tell versions apart where nearly every unit has soon met one. All is forgotten with the route's salt.

Other gateways may have met the same unit. So each that counts here is told of by its fingerprint (unit_teller.py), to
whoever counts for all gateways. What counts is what the rollout in flight needs: the route's `counted`. A request that
names no unit comes to one gateway only, so how many were served is a counter, which whoever asks may add up.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from services.gateway.plan import Plan
from services.gateway.unit_teller import Met
from shared.events import RouteUpdated
from shared.gateway_metrics import (
    EVENT_ERRORS,
    EVENT_JUDGED,
    EVENT_SERVED,
    EVENT_THUMBS_DOWN,
    EVENT_UNNAMED,
    UNIT_EVENTS,
    UNIT_TIMES,
)

# Event, `le`, and `times`, as the series' labels have them.
Cell = tuple[str, str, str]
_MOST = UNIT_TIMES[-1]
Tell = Callable[[str, str, Met, int], None]
_TIMES = {times: str(times) for times in UNIT_TIMES}
_SERVED: Cell = (EVENT_SERVED, "", "1")
_UNNAMED: Cell = (EVENT_UNNAMED, "", "1")


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


@dataclass
class _Route:
    """What is known of a route's units under its salt: by event, its rising bounds, and who exceeded them.

    Attributes:
        since: when the salt was new, on the clock of `UnitEvents`.
        served: whoever is served is told of.
    """

    spec: RouteUpdated
    since: float
    served: bool
    bounds: dict[str, tuple[float, ...]]
    units: dict[str, UnitTimes]


class UnitEvents(Collector):
    """The units of all routes, and their counts as one counter. On one thread, but for `collect`.

    Args:
        limit: units per route and kind of event that are known.
        now: seconds on the clock that says when exchanges began.
    """

    def __init__(self, registry: CollectorRegistry, limit: int, now: Callable[[], float] = time.perf_counter) -> None:
        self._limit = limit
        self._now = now
        self._tell: Tell | None = None
        self._routes: dict[str, _Route] = {}
        self._counts: dict[tuple[str, str], dict[Cell, int]] = {}
        registry.register(self)

    def tell(self, whom: Tell) -> None:
        """Tell `whom` of each unit that counts: the route, its salt, what the unit met, and its fingerprint."""
        self._tell = whom

    def use(self, plan: Plan) -> None:
        """Serve these routes from now on; a new salt begins anew. Counters of versions stay: they only go up."""
        for name, route in plan.routes.items():
            known = self._routes.get(name)
            if known is None or (known.spec.salt, known.spec.counted) != (route.spec.salt, route.spec.counted):
                self._routes[name] = self._begun(route.spec)
            for target in route.targets.values():
                self._counts.setdefault((name, target.label), {_UNNAMED: 0})
        for gone in self._routes.keys() - plan.routes.keys():
            del self._routes[gone]

    def remove(self, route: str, label: str) -> None:
        """Forget the counts of a version."""
        self._counts.pop((route, label), None)

    def served(self, route: str, label: str, unit: int, *, named: bool) -> None:
        """A unit came that this version had not served under this salt; not `named`: it is a request."""
        known = self._routes.get(route)
        if not named:
            self._count(route, label, _UNNAMED)
        elif known is not None and known.served:
            self._count(route, label, _SERVED)
            if self._tell is not None:
                self._tell(route, known.spec.salt, Met(label, EVENT_SERVED, None, 1), unit)

    def failed(self, route: str, label: str, unit: int, begun: float) -> None:
        """A unit's request failed, and not by its own fault.

        Args:
            begun: when; a request that began under another salt is left out, because it has another fingerprint.
        """
        self._met(route, label, unit, begun, event=EVENT_ERRORS, value=0.0)

    def slow(self, route: str, label: str, unit: int, begun: float, *, event: str, seconds: float) -> None:
        """A unit was kept waiting so long, by one of the events that have bounds."""
        self._met(route, label, unit, begun, event=event, value=seconds)

    def badly(self, route: str, label: str, unit: int, begun: float, *, event: str) -> None:
        """A unit was answered badly by one of the events without bounds, or alone badly of two answers to a request."""
        self._met(route, label, unit, begun, event=event, value=0.0)

    def judged(self, route: str, label: str, unit: int, begun: float, *, bad: bool) -> None:
        """Somebody judged an answer, perhaps long after; the unit is who had asked for it."""
        self._met(route, label, unit, begun, event=EVENT_JUDGED, value=0.0)
        if bad:
            self._met(route, label, unit, begun, event=EVENT_THUMBS_DOWN, value=0.0)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What is exposed. A cell that nothing was counted in is not there, but for those of unnamed units."""
        family = CounterMetricFamily(
            UNIT_EVENTS, "Units by what they met, once each under a route's salt",
            labels=["route", "model_version", "event", "le", "times"],
        )
        for key, cells in tuple(self._counts.items()):
            for cell, count in tuple(cells.items()):
                family.add_metric([*key, *cell], count)
        yield family

    def _begun(self, spec: RouteUpdated) -> _Route:
        bounds: dict[str, set[float]] = {}
        for counted in spec.counted:
            if counted.event == EVENT_SERVED:
                continue
            bounds.setdefault(counted.event, set()).update(() if counted.seconds is None else (counted.seconds,))
        rising = {event: tuple(sorted(each)) for event, each in bounds.items()}
        units = {event: UnitTimes(each, self._limit) for event, each in rising.items()}
        served = any(counted.event == EVENT_SERVED for counted in spec.counted)
        return _Route(spec, self._now(), served, rising, units)

    def _met(self, route: str, label: str, unit: int, begun: float, *, event: str, value: float) -> None:
        known = self._routes.get(route)
        if known is None or begun < known.since or event not in known.units:
            return
        bounds = known.bounds[event]
        for index, times in known.units[event].met(unit, value):
            seconds = bounds[index] if bounds else None
            self._count(route, label, (event, "" if seconds is None else f"{seconds:g}", _TIMES[times]))
            if self._tell is not None:
                self._tell(route, known.spec.salt, Met(label, event, seconds, times), unit)

    def _count(self, route: str, label: str, cell: Cell) -> None:
        cells = self._counts.get((route, label))
        if cells is not None:
            cells[cell] = cells.get(cell, 0) + 1
