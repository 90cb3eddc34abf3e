"""From the route table to what a request needs: for each route, its targets with the replicas that may serve them.

Compiled once per change of the table, so that a request only hashes and indexes. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.gateway.split import POSITIONS, Role, pick
from services.gateway.table import Replica, RouteTable
from shared.events import RouteTarget, RouteUpdated
from shared.served_names import BASE, control_of


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model server as the gateway reaches it."""

    replica: str
    url: str


@dataclass(frozen=True, slots=True)
class Target:
    """One model behind a route, ready to be asked.

    Attributes:
        label: the model version in metrics and headers, by its second name where it is the control; ``base`` for the
            bare base model.
        upstream_model: the `model` that the model server knows it by.
        weight: basis points that the route table says.
        effective_weight: basis points that it gets: 0 for a candidate or control that no replica confirmed, and for
            the one without the other, which could be compared with nothing; what they do not get is stable's.
        endpoints: the replicas that confirmed it.
        shadow_share: of the requests that other targets answer; it gets copies of these.
    """

    route: str
    label: str
    upstream_model: str
    role: Role
    weight: int
    effective_weight: int
    endpoints: tuple[Endpoint, ...]
    shadow_share: float = 0.0


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """A route, ready to be asked.

    Attributes:
        targets: one per role that the route has.
        shadows: those that get copies, and that a replica has confirmed.
    """

    spec: RouteUpdated
    targets: Mapping[Role, Target]
    candidate_weight: int
    control_weight: int
    shadows: tuple[Target, ...] = ()

    def choose(self, place: int) -> Target:
        """The target of a position of the split."""
        return self.targets[pick(place, candidate=self.candidate_weight, control=self.control_weight)]


@dataclass(frozen=True, slots=True)
class Plan:
    """All routes by name."""

    routes: Mapping[str, RoutePlan] = field(default_factory=dict)

    def endpoints(self) -> frozenset[str]:
        """The URLs of all replicas that any target may use."""
        return frozenset(e.url for r in self.routes.values() for t in r.targets.values() for e in t.endpoints)

    def replicas(self) -> frozenset[str]:
        """The names of the same."""
        return frozenset(e.replica for r in self.routes.values() for t in r.targets.values() for e in t.endpoints)


def compile_plan(table: RouteTable) -> Plan:
    """The plan of a route table."""
    return Plan({name: _route(spec, table.replicas) for name, spec in sorted(table.routes.items())})


def _route(spec: RouteUpdated, replicas: Mapping[str, Replica]) -> RoutePlan:
    confirmed = {target.role: _confirmed(spec, target, replicas) for target in spec.targets}
    weights = _weights(spec, confirmed)
    targets: dict[Role, Target] = {
        target.role: Target(
            route=spec.route,
            label=target.model_version or (control_of(BASE) if target.role == "control" else BASE),
            upstream_model=target.model_version or spec.base_model,
            role=target.role,
            weight=target.weight,
            effective_weight=weights[target.role],
            endpoints=confirmed[target.role],
            shadow_share=target.shadow_share,
        )
        for target in spec.targets
    }
    return RoutePlan(
        spec=spec,
        targets=targets,
        candidate_weight=weights.get("candidate", 0),
        control_weight=weights.get("control", 0),
        shadows=tuple(target for target in targets.values() if target.shadow_share > 0 and target.endpoints),
    )


def _weights(spec: RouteUpdated, confirmed: Mapping[Role, tuple[Endpoint, ...]]) -> dict[Role, int]:
    """What each role gets, in basis points; a candidate that has a control gets nothing while that cannot be served."""
    meant: dict[Role, int] = {target.role: target.weight for target in spec.targets if target.role != "stable"}
    weights: dict[Role, int] = {role: weight if confirmed[role] else 0 for role, weight in meant.items()}
    if meant.get("control") and 0 in weights.values():
        weights = dict.fromkeys(weights, 0)
    return {**weights, "stable": POSITIONS - sum(weights.values())}


def _confirmed(spec: RouteUpdated, target: RouteTarget, replicas: Mapping[str, Replica]) -> tuple[Endpoint, ...]:
    digest = target.adapter.digest if target.adapter is not None else None
    return tuple(
        Endpoint(name, replica.endpoint)
        for name, replica in sorted(replicas.items())
        if replica.base_model == spec.base_model and replica.serves(target.model_version, digest)
    )
