"""The series of a target: there at 0 from the first moment, gone when they are of no more use."""

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from services.gateway.metrics import RETIRED_KEPT, GatewayMetrics
from services.gateway.plan import Plan, compile_plan
from services.gateway.series import Histogram
from services.gateway.table import RouteTable, apply
from shared.events import RouteUpdated
from tests.support.routes import canary, fact, loaded, ready, route, target

A = "http://127.0.0.1:1"


def plan(number: int) -> Plan:
    table = RouteTable()
    for item in (route("r", target(f"r@{number}", "stable", 10_000), revision=number), loaded("r0", A, f"r@{number}")):
        table = apply(table, fact(item))
    return compile_plan(table)


def test_counters_exist_at_zero_when_a_route_arrives() -> None:
    table = RouteTable()
    for item in (canary("r", None, "r@1", 1_000, revision=7), ready("r0", A), loaded("r0", A, "r@1")):
        table = apply(table, fact(item))
    metrics = GatewayMetrics()
    metrics.use(compile_plan(table))
    value = metrics.registry.get_sample_value
    for label in ("base", "r@1"):
        for outcome in ("ok", "error", "rejected"):
            labels = {"route": "r", "model_version": label, "outcome": outcome}
            assert value("tuneloop_gateway_requests_total", labels) == 0
        assert value("tuneloop_gateway_units_seen", {"route": "r", "model_version": label}) == 0
        assert value("tuneloop_gateway_request_duration_seconds_count", {"route": "r", "model_version": label}) == 0
    assert value("tuneloop_gateway_route_weight", {"route": "r", "model_version": "r@1", "role": "candidate"}) == 1_000
    assert value("tuneloop_gateway_route_weight", {"route": "r", "model_version": "base", "role": "stable"}) == 9_000
    assert value("tuneloop_gateway_route_revision", {"route": "r"}) == 7


def test_who_may_answer_and_who_fails_is_there_from_the_first_moment_and_gone_with_it() -> None:
    metrics = GatewayMetrics()
    value = metrics.registry.get_sample_value
    labels = {"route": "r", "model_version": "r@1", "role": "stable"}
    for code in ("overloaded", "no_route_table"):
        assert value("tuneloop_gateway_unrouted_total", {"code": code}) == 0
    metrics.use(plan(1))
    assert value("tuneloop_gateway_route_replicas", labels) == 1
    assert value("tuneloop_gateway_replica_ejections_total", {"replica": "r0"}) == 0
    metrics.ejected("r0")
    metrics.use(plan(1))
    assert value("tuneloop_gateway_replica_ejections_total", {"replica": "r0"}) == 1
    metrics.use(compile_plan(apply(RouteTable(), fact(route("r", target("r@1", "stable", 10_000), revision=1)))))
    assert value("tuneloop_gateway_route_replicas", labels) == 0
    assert value("tuneloop_gateway_replica_ejections_total", {"replica": "r0"}) is None
    metrics.use(Plan())
    assert value("tuneloop_gateway_route_replicas", labels) is None


def test_buckets_include_the_ones_that_policies_may_name() -> None:
    metrics = GatewayMetrics()
    metrics.target("r", "base")
    for bound in ("0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0"):
        labels = {"route": "r", "model_version": "base", "le": bound}
        assert metrics.registry.get_sample_value("tuneloop_gateway_request_duration_seconds_bucket", labels) == 0


def test_series_of_versions_long_gone_are_dropped() -> None:
    metrics = GatewayMetrics()
    last = RETIRED_KEPT + 5
    for number in range(1, last + 1):
        metrics.use(plan(number))
    value = metrics.registry.get_sample_value

    def there(number: int) -> bool:
        labels = {"route": "r", "model_version": f"r@{number}", "outcome": "ok"}
        return value("tuneloop_gateway_requests_total", labels) == 0

    assert [number for number in range(1, last + 1) if there(number)] == list(range(last - RETIRED_KEPT, last + 1))
    weights = [sample for family in metrics.registry.collect() if family.name == "tuneloop_gateway_route_weight"
               for sample in family.samples]
    assert [sample.labels["model_version"] for sample in weights] == [f"r@{last}"]


def test_a_version_that_returns_keeps_its_counts() -> None:
    metrics = GatewayMetrics()
    metrics.use(plan(1))
    metrics.target("r", "r@1").ended("ok")
    metrics.use(plan(2))
    metrics.use(plan(1))
    labels = {"route": "r", "model_version": "r@1", "outcome": "ok"}
    assert metrics.registry.get_sample_value("tuneloop_gateway_requests_total", labels) == 1


def test_a_shadow_has_series_from_the_moment_that_it_is_one_and_loses_them_with_the_others() -> None:
    def used(metrics: GatewayMetrics, share: float, number: int, revision: int) -> None:
        spec = canary("r", None, f"r@{number}", 0, revision=revision)
        stable, candidate = spec.targets
        copied = candidate.model_copy(update={"shadow_share": share})
        table = apply(RouteTable(), fact(spec.model_copy(update={"targets": [stable, copied]})))
        metrics.use(compile_plan(table))

    def value(metrics: GatewayMetrics, number: int) -> float | None:
        labels = {"route": "r", "model_version": f"r@{number}", "outcome": "error"}
        return metrics.registry.get_sample_value("tuneloop_gateway_shadow_total", labels)

    metrics = GatewayMetrics()
    used(metrics, 0.0, 1, 1)
    assert value(metrics, 1) is None
    used(metrics, 0.1, 1, 2)
    assert value(metrics, 1) == 0
    for number in range(2, RETIRED_KEPT + 3):
        used(metrics, 0.1, number, number + 1)
    assert (value(metrics, 1), value(metrics, 2)) == (None, 0)


@given(values=st.lists(st.floats(0, 1_000) | st.sampled_from((0.1, 0.5, 1.0, 2.5))))
def test_a_histogram_counts_as_the_original(values: list[float]) -> None:
    bounds = (0.1, 0.5, 1, 2.5)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("x", "x", ["a"], buckets=bounds, registry=ours).labels("b")
    original = prometheus_client.Histogram("x", "x", ["a"], buckets=bounds, registry=theirs).labels("b")
    for value in values:
        mine.observe(value)
        mine.observe(value)
        original.observe(value)
        original.observe(value)
    exposed = [[line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
               for registry in (ours, theirs)]
    assert exposed[0][:-1] == exposed[1][:-1]
    assert float(exposed[0][-1].split()[-1]) == pytest.approx(float(exposed[1][-1].split()[-1]))


def test_a_split_is_as_old_as_the_last_change_of_a_weight() -> None:
    clock = [100.0]
    metrics = GatewayMetrics(now=lambda: clock[0])

    def since(spec: RouteUpdated, *, confirmed: bool = True) -> float | None:
        clock[0] += 1
        facts = (spec, ready("r0", A), *((loaded("r0", A, "r@1"),) if confirmed else ()))
        table = RouteTable()
        for item in facts:
            table = apply(table, fact(item))
        metrics.use(compile_plan(table))
        return metrics.registry.get_sample_value("tuneloop_gateway_route_split_since_timestamp_seconds", {"route": "r"})

    assert since(canary("r", None, "r@1", 0, revision=1)) == 101
    assert since(canary("r", None, "r@1", 1_000, revision=2), confirmed=False) == 101
    assert since(canary("r", None, "r@1", 1_000, revision=2)) == 103
    assert since(canary("r", None, "r@1", 0, revision=3)) == 104
    assert since(route("r", revision=4)) == 104
