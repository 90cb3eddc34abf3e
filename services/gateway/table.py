"""The route table: everything that the gateway knows, as one immutable value that events turn into the next one.

`apply` is pure. It takes facts in any order between aggregates and any number of times, because the topics are read
from their beginning at each start, on top of the table that the disk remembers. Routes go by revision; replicas and
adapters go by the time at which the fact became true.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.split import POSITIONS
from shared.errors import PermanentError
from shared.events import AdapterLoaded, AdapterUnloaded, Event, ReplicaReady, RouteUpdated
from shared.events.serving import AdapterPayload, ReplicaPayload
from shared.served_names import SERVED_NAME

_SERVED_NAME = re.compile(SERVED_NAME)
# Adapters per replica that are remembered after they were unloaded, so that a re-read fact does not revive them.
REMEMBERED_UNLOADED = 256


class RefusedFactError(PermanentError):
    """A fact that the gateway must not act on; the table stays as it was."""


class AdapterState(BaseModel):
    """The newest fact about one adapter on one replica."""

    model_config = ConfigDict(frozen=True)

    digest: str
    loaded: bool
    at: datetime
    sequence: int = 0


class Replica(BaseModel):
    """A model server that has said that it answers, and the adapters that it confirmed."""

    model_config = ConfigDict(frozen=True)

    endpoint: str
    base_model: str
    seen_at: datetime
    adapters: Mapping[str, AdapterState] = Field(default_factory=dict)

    def serves(self, model_version: str | None, digest: str | None) -> bool:
        """Whether this replica confirmed the version (None: the base model) with exactly these weights."""
        if model_version is None:
            return True
        state = self.adapters.get(model_version)
        return state is not None and state.loaded and state.digest == digest


class RouteTable(BaseModel):
    """Routes by name, replicas by name."""

    model_config = ConfigDict(frozen=True)

    routes: Mapping[str, RouteUpdated] = Field(default_factory=dict)
    replicas: Mapping[str, Replica] = Field(default_factory=dict)


def apply(table: RouteTable, event: Event[Any]) -> RouteTable:
    """The table after a fact; the same object where the fact changes nothing.

    Raises:
        RefusedFactError: the fact is not one to act on, with the reason.
    """
    match event.data:
        case RouteUpdated() as route:
            return _with_route(table, route)
        case ReplicaReady() as ready:
            return _with_replica(table, ready, event)
        case AdapterLoaded() | AdapterUnloaded() as adapter:
            return _with_adapter(table, adapter, event)
    return table


def _with_route(table: RouteTable, route: RouteUpdated) -> RouteTable:
    known = table.routes.get(route.route)
    if known is not None and known.revision >= route.revision:
        return table
    check_route(route)
    return table.model_copy(update={"routes": {**table.routes, route.route: route}})


def check_route(route: RouteUpdated) -> None:
    """Refuse a route that could not be served as it says.

    Raises:
        RefusedFactError: with what is wrong.
    """
    roles = [target.role for target in route.targets]
    weights = sum(target.weight for target in route.targets)
    names = [target.model_version for target in route.targets if target.model_version is not None]
    problem = ""
    if roles.count("stable") != 1:
        problem = f"it has {roles.count('stable')} stable targets and needs exactly one"
    elif roles.count("candidate") > 1 or roles.count("control") > 1:
        problem = "it has more than one candidate or control"
    elif weights != POSITIONS:
        problem = f"its weights add up to {weights} and not to {POSITIONS}"
    elif bad := [name for name in names if not _SERVED_NAME.match(name)]:
        problem = f"{bad[0]!r} is not a model version (route@number) or a control (route@number-control)"
    elif missing := [t.model_version for t in route.targets if t.model_version is not None and t.adapter is None]:
        problem = f"{missing[0]} has no adapter"
    if problem:
        raise RefusedFactError(f"route {route.route!r} revision {route.revision}: {problem}; the one before it stays")


def _with_replica(table: RouteTable, fact: ReplicaReady, event: Event[Any]) -> RouteTable:
    """A replica said where it is.

    What it had loaded before stays confirmed: the agent says so when an adapter is gone, and a model server that
    restarted answers 404 for an adapter until it is back, which the data path takes as "ask another replica".
    """
    known = table.replicas.get(fact.replica)
    if known is not None and event.time <= known.seen_at:
        return table
    return _put(table, fact.replica, _replica(fact, event, known.adapters if known is not None else {}))


def _with_adapter(table: RouteTable, fact: AdapterPayload, event: Event[Any]) -> RouteTable:
    replica = table.replicas.get(fact.replica)
    adapters = replica.adapters if replica is not None else {}
    known = adapters.get(fact.model_version)
    if known is not None and (event.time, event.sequence) <= (known.at, known.sequence):
        return table
    state = AdapterState(
        digest=fact.digest, loaded=isinstance(fact, AdapterLoaded), at=event.time, sequence=event.sequence
    )
    adapters = _bounded({**adapters, fact.model_version: state})
    if replica is not None and event.time <= replica.seen_at:
        return _put(table, fact.replica, replica.model_copy(update={"adapters": adapters}))
    return _put(table, fact.replica, _replica(fact, event, adapters))


def _replica(fact: ReplicaPayload, event: Event[Any], adapters: Mapping[str, AdapterState]) -> Replica:
    parts = urlsplit(fact.endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedFactError(f"replica {fact.replica!r}: endpoint {fact.endpoint!r} is not an http URL")
    return Replica(
        endpoint=fact.endpoint.rstrip("/"), base_model=fact.base_model, seen_at=event.time, adapters=adapters
    )


def _put(table: RouteTable, name: str, replica: Replica) -> RouteTable:
    return table.model_copy(update={"replicas": {**table.replicas, name: replica}})


def _bounded(adapters: dict[str, AdapterState]) -> dict[str, AdapterState]:
    unloaded = sorted((name for name, state in adapters.items() if not state.loaded), key=lambda n: adapters[n].at)
    for name in unloaded[:-REMEMBERED_UNLOADED]:
        del adapters[name]
    return adapters
