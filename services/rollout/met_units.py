"""Counts distinct units by what gateways say that they met: a union of what all gateways know. Database only.

A unit counts once for each thing, with the version that the first gateway to tell of it named. Who is told of twice
(by two gateways, by one that restarted, by a message that came again) is known already. What is lost on the way is lost
for all versions alike, because nobody on the way knows whether a version is the better one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlmodel import Session, col, delete, select

from services.rollout.models import MetCount, MetUnit, Route
from services.rollout.unit_counts import cell
from shared.events import UnitsMet
from shared.messaging.inbox import insert_new

# Units of a route that are known for each thing; further ones are not counted.
MOST_UNITS = 100_000

Met = Mapping[tuple[str, str], int]


def count(session: Session, told: UnitsMet) -> None:
    """Count those that are new. What is told of another split than the present one is of no use to anybody."""
    route = session.get(Route, told.route, with_for_update=True)
    if route is None or route.counted is None or route.salt != told.salt:
        return
    known = {(row.version, row.cell): row for row in session.exec(select(MetCount).where(MetCount.route == told.route))}
    totals: Counter[str] = Counter()
    for (_, name), row in known.items():
        totals[name] += row.units
    for met in told.met:
        name = cell(met.event, "" if met.seconds is None else f"{met.seconds:g}", met.times)
        room = max(0, MOST_UNITS - totals[name])
        rows: list[dict[str, Any]] = [{"route": told.route, "cell": name, "unit": unit} for unit in met.units[:room]]
        new = len(insert_new(session, MetUnit, rows, unique=["route", "cell", "unit"], returning="unit"))
        if not new:
            continue
        totals[name] += new
        key = met.model_version, name
        if key not in known:
            known[key] = MetCount(route=told.route, version=met.model_version, cell=name, units=0)
            session.add(known[key])
        known[key].units += new


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
