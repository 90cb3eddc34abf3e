"""Per-adapter metrics: what rollout's analysis and the dashboards read. Model servers have none of them per adapter."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client import Gauge as PlainGauge
from prometheus_client.process_collector import ProcessCollector

from services.gateway.plan import Plan, RoutePlan
from services.gateway.route_metrics import RouteSeries
from services.gateway.series import Counter
from services.gateway.shadow_metrics import ShadowMetrics, ShadowSeries
from services.gateway.target_metrics import TargetMetrics, TargetSeries
from services.gateway.unit_events import UnitEvents
from shared import gateway_metrics as names

# Refusals that are the gateway's own doing, which somebody wants to hear of; the others are clients' mistakes.
_TURNED_AWAY = ("overloaded", "no_route_table")
# Versions of a route that left it and whose series stay, so that whoever analyses the end of a rollout still sees them.
RETIRED_KEPT = 8


class GatewayMetrics:
    """All series of one gateway.

    Args:
        max_units: units of a route that are known by each kind of event.
        now: Unix time.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, max_units: int = 100_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.unit_events = UnitEvents(self.registry, max_units)
        self.unrouted = Counter(
            f"{names.PREFIX}unrouted_total", "Requests refused before a model version was chosen", ["code"],
            registry=self.registry,
        )
        for code in _TURNED_AWAY:
            self.unrouted.labels(code)
        self.in_flight = PlainGauge(f"{names.PREFIX}in_flight", "Requests in flight", registry=self.registry)
        self._of_targets = TargetSeries(self.registry, self.unit_events)
        self._of_shadows = ShadowSeries(self.registry)
        self._of_routes = RouteSeries(self.registry, now)
        self.answers = self._of_targets.answers
        self._targets: dict[tuple[str, str], TargetMetrics] = {}
        self._shadows: dict[tuple[str, str], ShadowMetrics] = {}
        self._retired: dict[str, list[str]] = {}

    def target(self, route: str, label: str) -> TargetMetrics:
        """The series of a model version, created at 0 on first sight."""
        found = self._targets.get((route, label))
        if found is None:
            found = self._targets[route, label] = TargetMetrics(self._of_targets, route, label)
        return found

    def shadow(self, route: str, label: str) -> ShadowMetrics:
        """The series of a shadow, created at 0 on first sight; most versions never are one."""
        found = self._shadows.get((route, label))
        if found is None:
            found = self._shadows[route, label] = ShadowMetrics(self._of_shadows, route, label)
        return found

    def use(self, plan: Plan) -> None:
        """Bring the series in line with the routes that are served from now on."""
        self.unit_events.use(plan)
        for name, route in plan.routes.items():
            for target in route.targets.values():
                self.target(name, target.label)
                if target.shadow_share > 0:
                    self.shadow(name, target.label)
            self._retire(name, route)
        self._of_routes.use(plan)

    def ejected(self, replica: str) -> None:
        """A model server failed so often that it is skipped for a while."""
        self._of_routes.ejections.labels(replica).value += 1

    def _retire(self, name: str, route: RoutePlan) -> None:
        """Drop the series of versions that left the route long ago, or /metrics would grow with every adapter."""
        present = {target.label for target in route.targets.values()}
        known = [label for owner, label in self._targets if owner == name]
        retired = [label for label in self._retired.get(name, []) if label not in present]
        retired += [label for label in known if label not in present and label not in retired]
        for label in retired[:-RETIRED_KEPT]:
            self._remove(name, label)
        self._retired[name] = retired[-RETIRED_KEPT:]

    def _remove(self, route: str, label: str) -> None:
        del self._targets[route, label]
        self._of_targets.remove(route, label)
        if self._shadows.pop((route, label), None) is not None:
            self._of_shadows.remove(route, label)
