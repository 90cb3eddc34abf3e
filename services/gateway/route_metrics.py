"""What the routes are that a gateway serves by: weights, revisions, and the model servers behind them."""

from collections.abc import Callable, Set

from prometheus_client import CollectorRegistry

from services.gateway.plan import Plan, RoutePlan
from services.gateway.series import Counter, Gauge
from shared import gateway_metrics as names


class RouteSeries:
    """Their series.

    Args:
        now: Unix time.
    """

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float]) -> None:
        role = ["route", "model_version", "role"]
        self.weight = Gauge(
            f"{names.PREFIX}route_weight", "Share of the route in effect, basis points", role, registry=registry
        )
        self.replicas = Gauge(
            names.ROUTE_REPLICAS, "Model servers that confirmed the version", role, registry=registry
        )
        self.ejections = Counter(
            names.EJECTIONS, "Times that a breaker opened for a model server", ["replica"], registry=registry
        )
        self.revision = Gauge(names.ROUTE_REVISION, "Revision of the route in effect", ["route"], registry=registry)
        self.split_since = Gauge(
            names.SPLIT_SINCE, "Since when versions have their present weights, Unix time", ["route"],
            registry=registry,
        )
        self._now = now
        self._weights: set[tuple[str, str, str]] = set()
        self._known: set[str] = set()
        self._splits: dict[str, dict[str, int]] = {}

    def use(self, plan: Plan) -> None:
        """Bring the series in line with the routes that are served from now on."""
        weights: set[tuple[str, str, str]] = set()
        for name, route in plan.routes.items():
            self.revision.labels(name).value = route.spec.revision
            for target in route.targets.values():
                self.weight.labels(name, target.label, target.role).value = target.effective_weight
                self.replicas.labels(name, target.label, target.role).value = len(target.endpoints)
                weights.add((name, target.label, target.role))
            self._mark_split(name, route)
        for gone in self._weights - weights:
            self.weight.remove(*gone)
            self.replicas.remove(*gone)
        self._weights = weights
        self._know_replicas(plan.replicas())

    def _know_replicas(self, present: Set[str]) -> None:
        """Begin the series of new ones at 0, and end those of model servers that are gone."""
        for replica in present:
            self.ejections.labels(replica)
        for replica in self._known - present:
            self.ejections.remove(replica)
        self._known = set(present)

    def _mark_split(self, name: str, route: RoutePlan) -> None:
        """A version without weight that comes or goes is no change."""
        split = {target.label: target.effective_weight for target in route.targets.values() if target.effective_weight}
        if self._splits.get(name) != split:
            self._splits[name] = split
            self.split_since.labels(name).value = self._now()
