"""One look at the world for one rollout: the controller's own tables first, then Prometheus, outside a transaction.

An abort and a successor do not wait for Prometheus, which may be what is broken: the reducer acts on them without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

from sqlalchemy import Engine, and_, or_
from sqlmodel import Session, col, select

from services.rollout.abtest import latency_readings
from services.rollout.counts import Reading
from services.rollout.guardrails import NoData, Query, Sample, counted_in, name_of, queries_of, readings_of
from services.rollout.models import AdapterOnReplica, CommandRow, Replica, Rollout, Route
from services.rollout.state import ACTIVE, Command, Loading, Observation, RolloutState, Verb
from services.rollout.unit_counts import UnitReadings, selector_of
from services.rollout.unit_counts import readings_of as readings_of_units
from shared.db import reading
from shared.errors import TemporaryError
from shared.events import ModelRef
from shared.gateway_metrics import DURATION, UNITS
from shared.pipeline import Counted, RolloutPolicy

# How the gateway's metrics call the bare base model.
BASE = "base"


class Samples(Protocol):
    """Where samples come from: `services.rollout.prometheus.Prometheus`."""

    def newest(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        """The newest fresh sample of each series, or why there are none."""
        ...


@dataclass(frozen=True)
class _Known:
    """What the controller's own database says."""

    stable: str
    loading: Loading
    route_free: bool
    misfit: str
    successor: str | None
    command: Command | None


def observe(engine: Engine, samples: Samples, rollout: Rollout, state: RolloutState, now: datetime) -> Observation:
    """Everything that the reducer may base its next step on."""
    with reading(engine) as session:
        known = _known(session, rollout)
    urgent = known.successor is not None or (known.command is not None and known.command.verb == "abort")
    readings = {} if urgent else _readings(samples, rollout, known.stable, now, copies=state.shadow > 0)
    answered = any(not isinstance(found, NoData) for found in readings.values())
    exposed = answered and state.exposed_from is not None
    units = _units(samples, rollout, now) if answered else None
    users = units.seen.get(rollout.model_version) if isinstance(units, UnitReadings) else None
    return Observation(
        stable=known.stable, candidate=rollout.model_version, readings=readings, loading=known.loading,
        route_free=known.route_free, misfit=known.misfit, successor=known.successor, command=known.command,
        latencies=_latencies(samples, rollout, now) if exposed and state.ab_test is not None else (),
        users=users if exposed else None, units=units,
    )


def _readings(
    samples: Samples, rollout: Rollout, stable: str, now: datetime, *, copies: bool
) -> dict[str, tuple[Reading, ...] | NoData]:
    readings: dict[str, tuple[Reading, ...] | NoData] = {}
    wanted = counted_in(RolloutPolicy.model_validate(rollout.policy))
    for counted in wanted:
        found = read(
            samples, counted, now, route=rollout.route, stable=stable, candidate=rollout.model_version, copies=copies,
        )
        readings[name_of(counted)] = found
        if isinstance(found, NoData) and found.kind in ("timeout", "unreachable"):
            # The next query would only wait as long again.
            return {**{name_of(other): found for other in wanted}, **readings}
    return readings


def read(
    samples: Samples, counted: Counted, now: datetime, *, route: str, stable: str, candidate: str,
    copies: bool = False,
) -> tuple[Reading, ...] | NoData:
    """The counters of a guardrail or of an A/B test, or why there are none."""
    found: list[tuple[Query, Sequence[Sample]]] = []
    for query in queries_of(counted, route, stable, candidate, copies=copies):
        answer = samples.newest(query.selector, now)
        if not isinstance(answer, NoData):
            found.append((query, answer))
        elif answer.kind not in query.may_lack:
            return answer
    return readings_of(counted, found, candidate)


def _latencies(samples: Samples, rollout: Rollout, now: datetime) -> tuple[Reading, ...]:
    """Of all versions of the route; nothing where there are none, because nothing hangs on them."""
    found = samples.newest(f'{DURATION}_bucket{{route="{rollout.route}"}}', now)
    return () if isinstance(found, NoData) else latency_readings(found)


def _units(samples: Samples, rollout: Rollout, now: datetime) -> UnitReadings | NoData:
    """Units by version, summed over gateways (a unit that met two of them counts twice), and what they met."""
    seen = samples.newest(f'{UNITS}{{route="{rollout.route}"}}', now)
    if isinstance(seen, NoData):
        return seen
    counters = samples.newest(selector_of(RolloutPolicy.model_validate(rollout.policy), rollout.route), now)
    if isinstance(counters, NoData) and counters.kind != "empty":
        return counters
    return readings_of_units(() if isinstance(counters, NoData) else counters, seen)


def _known(session: Session, rollout: Rollout) -> _Known:
    route = session.get(Route, rollout.route)
    if route is None:
        raise TemporaryError(f"{rollout.id}: the route {rollout.route} is not in the database")
    stable = ModelRef.model_validate(route.stable).model_version if route.stable else BASE
    newer = successor(session, rollout)
    return _Known(
        stable=stable,
        loading=_loading(session, rollout, route.base_model),
        route_free=route.rollout_id in (None, rollout.id),
        misfit=_misfit(route, rollout),
        successor=newer.model_version if newer else None,
        command=_command(session, rollout),
    )


def _loading(session: Session, rollout: Rollout, base_model: str) -> Loading:
    """What a replica had loaded before it last became ready is gone; what it can never load is no better for that."""
    digest = ModelRef.model_validate(rollout.model).artifact.digest
    replicas = session.exec(select(Replica).where(Replica.base_model == base_model).order_by(Replica.id)).all()
    facts = {
        fact.replica: fact
        for fact in session.exec(
            select(AdapterOnReplica).where(
                AdapterOnReplica.model_version == rollout.model_version, AdapterOnReplica.digest == digest
            )
        )
    }
    waiting = []
    for replica in replicas:
        fact = facts.get(replica.id)
        if fact is not None and fact.state == "failed" and fact.permanent:
            return Loading(failure=f"replica {replica.id} cannot load it: {fact.reason}")
        if fact is None or fact.state != "loaded" or fact.at < replica.ready_at:
            waiting.append(replica.id)
    return Loading(waiting=tuple(waiting), loaded=len(replicas) - len(waiting))


def _misfit(route: Route, rollout: Rollout) -> str:
    """Why an adapter for another base can never be served beside the route's stable one."""
    base = ModelRef.model_validate(rollout.model).base_model
    if base != route.base_model:
        return f"the adapter was trained on {base}, but the route {route.id} serves {route.base_model}"
    if route.stable and route.base_model_digest != rollout.base_model_digest:
        return (f"the adapter was trained on {base} with digest {rollout.base_model_digest}, but the route {route.id} "
                f"serves {route.base_model_digest}")
    return ""


def successor(session: Session, rollout: Rollout) -> Rollout | None:
    """The newest rollout of the same route that comes after this one, and is in flight or was promoted."""
    number, created_at = col(Rollout.number), col(Rollout.created_at)
    younger = and_(number == rollout.number, created_at > rollout.created_at)
    return session.exec(
        select(Rollout)
        .where(
            Rollout.route == rollout.route, or_(number > rollout.number, younger),
            col(Rollout.state).in_([*ACTIVE, "promoted"]),
        )
        .order_by(number.desc(), created_at.desc())
    ).first()


def _command(session: Session, rollout: Rollout) -> Command | None:
    row = session.exec(
        select(CommandRow)
        .where(CommandRow.rollout_id == rollout.id, col(CommandRow.answered_at).is_(None))
        .order_by(col(CommandRow.id))
    ).first()
    if row is None or row.id is None:
        return None
    return Command(id=row.id, verb=cast(Verb, row.verb), reason=row.reason, by=row.by, full=row.full)
