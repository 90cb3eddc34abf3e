"""Counts distinct units by what gateways say that they met: a union of what all gateways know. Database only.

A unit counts once for each thing, with the version that the first gateway to tell of it named. Who is told of twice
(by two gateways, by one that restarted, by a message that came again) is known already. What is lost on the way is lost
for all versions alike, because nobody on the way knows whether a version is the better one.

Served it is once by each version; it is *new* with the first of them. Of what was said long after it was, none counts
as new: it was dealt out by other weights, for which the split would be tested by the present ones.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, delete, select

from services.rollout.models import MetCount, MetUnit, Route
from services.rollout.unit_counts import NEW, SERVED, cell
from shared.events import MetUnits, UnitsMet
from shared.gateway_metrics import EVENT_SERVED
from shared.messaging.inbox import insert_new

# Units of a route that are known for each thing; further ones are not counted.
MOST_UNITS = 100_000
# By then the gateways know of a change of the route, and as far their clocks may be apart.
_KNOWN_BY = timedelta(seconds=5)

Met = Mapping[tuple[str, str], int]


def count(session: Session, told: UnitsMet, at: datetime) -> None:
    """Count those that are new. What is told of another split than the present one is of no use to anybody.

    Args:
        at: when the first of them met it.
    """
    route = session.get(Route, told.route, with_for_update=True)
    if route is None or route.counted is None or route.salt != told.salt:
        return
    counts = _Counts(session, told.route)
    for met in told.met:
        name = cell(met.event, "" if met.seconds is None else f"{met.seconds:g}", met.times)
        if met.event != EVENT_SERVED:
            counts.add(met.model_version, name, len(_kept(session, told.route, name, counts.room(name), met)))
            continue
        served = _kept(session, told.route, _served_by(met.model_version), counts.room(SERVED), met)
        if served and at >= route.updated_at + _KNOWN_BY:
            others = [version for version in counts.versions(SERVED) if version != met.model_version]
            counts.add(met.model_version, NEW, len(served - _of(session, told.route, served, others)))
        counts.add(met.model_version, SERVED, len(served))


class _Counts:
    """A route's `MetCount` rows."""

    def __init__(self, session: Session, route: str) -> None:
        self._session = session
        self._route = route
        rows = session.exec(select(MetCount).where(MetCount.route == route))
        self._rows = {(row.version, row.cell): row for row in rows}
        self._totals: Counter[str] = Counter()
        for (_, name), row in self._rows.items():
            self._totals[name] += row.units

    def room(self, name: str) -> int:
        """For how many more units there is room, with whichever version."""
        return max(0, MOST_UNITS - self._totals[name])

    def versions(self, name: str) -> list[str]:
        """Those with a count."""
        return [version for version, of in self._rows if of == name]

    def add(self, version: str, name: str, units: int) -> None:
        """Count so many more."""
        if units == 0:
            return
        self._totals[name] += units
        if (version, name) not in self._rows:
            row = self._rows[version, name] = MetCount(route=self._route, version=version, cell=name, units=0)
            self._session.add(row)
        self._rows[version, name].units += units


def _served_by(version: str) -> str:
    """The cell of the units of one version: all other cells know a unit once for the whole route."""
    return f"{SERVED} {version}"


def _kept(session: Session, route: str, name: str, room: int, met: MetUnits) -> set[str]:
    """Those that were not known."""
    rows: list[dict[str, Any]] = [{"route": route, "cell": name, "unit": unit} for unit in met.units[:room]]
    return insert_new(session, MetUnit, rows, unique=["route", "cell", "unit"], returning="unit")


def _of(session: Session, route: str, units: Iterable[str], versions: Iterable[str]) -> set[str]:
    """Those that one of the versions has served."""
    cells = [_served_by(version) for version in versions]
    if not cells:
        return set()
    return set(session.exec(select(MetUnit.unit).where(
        MetUnit.route == route, col(MetUnit.cell).in_(cells), col(MetUnit.unit).in_(units)
    )))


def counts_of(session: Session, routes: Iterable[str]) -> dict[str, Met]:
    """By route: distinct units by version and cell."""
    counts: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for row in session.exec(select(MetCount).where(col(MetCount.route).in_(routes))):
        counts[row.route][row.version, row.cell] = row.units
    return dict(counts)


def forget(session: Session, route: str) -> None:
    """Nobody asks any more: the split is another one, or the route has no rollout."""
    session.exec(delete(MetUnit).where(col(MetUnit.route) == route))
    session.exec(delete(MetCount).where(col(MetCount.route) == route))
