"""Units by what they met: once each, with the version that it was, forgotten with the salt."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan, compile_plan
from services.gateway.table import RouteTable, apply
from services.gateway.unit_events import UnitEvents, UnitTimes
from services.gateway.unit_teller import Met
from shared.events import CountedEvent
from tests.support.routes import canary, fact, loaded, ready

A = "http://127.0.0.1:1"


COUNTED = [
    CountedEvent(event="errors"), CountedEvent(event="time_to_first_token", seconds=0.05),
    CountedEvent(event="latency", seconds=0.5), CountedEvent(event="latency", seconds=0.25),
]


def plan(salt: str = "salt", counted: Sequence[CountedEvent] = COUNTED) -> Plan:
    table = RouteTable()
    route = canary("r", None, "r@1", 1_000).model_copy(update={"salt": salt, "counted": list(counted)})
    for item in (route, ready("r0", A), loaded("r0", A, "r@1")):
        table = apply(table, fact(item))
    return compile_plan(table)


class Counted:
    """Unit events of one route on a clock that stands still."""

    def __init__(self, limit: int = 100) -> None:
        self.registry = CollectorRegistry()
        self.now = 100.0
        self.events = UnitEvents(self.registry, limit, now=lambda: self.now)
        self.told: list[tuple[str, str, Met, int]] = []
        self.events.tell(lambda *told: self.told.append(told))
        self.events.use(plan())

    def fail(self, unit: int, *, version: str = "base", begun: float = 200.0) -> None:
        self.events.failed("r", version, unit, begun)

    def wait(self, unit: int, seconds: float, *, event: str = "latency") -> None:
        self.events.slow("r", "base", unit, 200.0, event=event, seconds=seconds)

    def value(self, event: str, *, version: str = "base", le: str = "", times: int = 1) -> float | None:
        return self.registry.get_sample_value("tuneloop_gateway_unit_events_total", {
            "route": "r", "model_version": version, "event": event, "le": le, "times": str(times),
        })


def test_a_unit_counts_at_its_first_fourth_and_sixteenth_error() -> None:
    counted = Counted()
    for _ in range(40):
        counted.fail(1)
    counted.fail(2)
    assert [counted.value("errors", times=times) for times in (1, 4, 16)] == [2, 1, 1]


def test_it_counts_with_the_version_that_it_was_and_once_for_the_whole_route() -> None:
    counted = Counted()
    counted.fail(1)
    for _ in range(3):
        counted.fail(1, version="r@1")
    assert counted.value("errors", times=1) == 1
    assert counted.value("errors", version="r@1", times=1) is None
    assert counted.value("errors", version="r@1", times=4) == 1


def test_waiting_counts_for_every_bound_that_it_exceeds() -> None:
    counted = Counted()
    counted.wait(1, 0.3)
    assert counted.value("latency", le="0.25") == 1
    assert counted.value("latency", le="0.5") is None
    counted.wait(1, 0.7)
    assert counted.value("latency", le="0.5") == 1
    counted.wait(1, 0.05, event="time_to_first_token")
    assert counted.value("time_to_first_token", le="0.05") is None, "as long as the bound is not over it"
    assert counted.told == [("r", "salt", Met("base", "latency", seconds, 1), 1) for seconds in (0.25, 0.5)]


def test_what_no_rollout_is_judged_by_is_not_counted() -> None:
    counted = Counted()
    counted.wait(1, 9.0, event="inter_token")
    assert counted.value("inter_token", le="1") is None
    assert counted.told == []


def test_a_new_salt_begins_anew_and_what_began_before_it_is_left_out() -> None:
    counted = Counted()
    counted.fail(1)
    counted.now = 300.0
    counted.events.use(plan("other"))
    counted.fail(1, begun=299.0)
    assert counted.value("errors") == 1
    counted.fail(1, begun=301.0)
    assert counted.value("errors") == 2, "counters only go up"


def test_memory_is_bounded() -> None:
    counted = Counted(limit=3)
    for unit in range(10):
        counted.fail(unit)
    assert counted.value("errors") == 3
    times = UnitTimes((0.5,), limit=1)
    assert times.met(1, 0.1) == []
    assert times.met(1, 0.6) == [(0, 1)]
    assert times.met(2, 0.6) == []


def test_whom_a_version_serves_is_told_of_where_it_has_a_name_and_somebody_asks() -> None:
    counted = Counted()
    counted.events.served("r", "base", 1, named=True)
    assert counted.told == [], "no rollout asks"
    counted.events.use(plan("other", [*COUNTED, CountedEvent(event="served")]))
    counted.events.served("r", "base", 1, named=True)
    counted.events.served("r", "r@1", 2, named=False)
    assert counted.told == [("r", "other", Met("base", "served", None, 1), 1)]
    assert (counted.value("served"), counted.value("unnamed", version="r@1")) == (1, 1)


def test_every_version_of_a_route_has_its_unnamed_units_at_zero_from_the_start() -> None:
    metrics = GatewayMetrics()
    metrics.use(plan())
    for version in ("base", "r@1"):
        labels = {"route": "r", "model_version": version, "event": "unnamed", "le": "", "times": "1"}
        assert metrics.registry.get_sample_value("tuneloop_gateway_unit_events_total", labels) == 0
    metrics.use(Plan())
    metrics.unit_events.remove("r", "base")
    assert metrics.registry.get_sample_value(
        "tuneloop_gateway_unit_events_total",
        {"route": "r", "model_version": "base", "event": "unnamed", "le": "", "times": "1"},
    ) is None
