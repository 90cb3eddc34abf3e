"""The PromQL against a real Prometheus that scrapes a real exporter with the gateway's metrics."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from services.rollout.counts import increments
from services.rollout.guardrails import UNITS, NoData, Sample, readings_of, selector_of
from services.rollout.prometheus import Prometheus
from shared.pipeline import Guardrail
from tests.support.ports import free_port
from tests.support.prometheus import start_prometheus
from tests.support.wait import eventually

pytestmark = pytest.mark.integration
ERRORS, LATENCY = Guardrail(metric="errors"), Guardrail(metric="latency", slo_seconds=0.5)


class Exporter:
    """The metrics of one gateway that rollout reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["route", "model_version"]
        self.requests = Counter(
            "tuneloop_gateway_requests_total", "requests", [*labels, "outcome"], registry=self.registry
        )
        self.duration = Histogram(
            "tuneloop_gateway_request_duration_seconds", "seconds", labels, registry=self.registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self.units = Gauge("tuneloop_gateway_units_seen", "units", labels, registry=self.registry)
        for version in ("base", "m@1"):
            for outcome in ("ok", "error", "rejected"):
                self.requests.labels("m", version, outcome)

    def serve(self, version: str, *, ok: int, error: int = 0, slow: int = 0) -> None:
        self.requests.labels("m", version, "ok").inc(ok)
        self.requests.labels("m", version, "error").inc(error)
        self.requests.labels("m", version, "rejected").inc(7)
        for number in range(ok):
            self.duration.labels("m", version).observe(3.0 if number < slow else 0.2)


@contextmanager
def exposed(exporter: Exporter, port: int) -> Iterator[None]:
    server, thread = start_http_server(port, "127.0.0.1", registry=exporter.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def now() -> datetime:
    return datetime.now(UTC)


def seen(client: Prometheus, guardrail: Guardrail, check: Callable[[dict[str, float]], bool]) -> list[Sample]:
    """The fresh samples, once their values by version and cell are as expected."""

    def probe() -> list[Sample] | None:
        found = client.newest(selector_of(guardrail, "m"), now())
        if isinstance(found, NoData):
            return None
        values = {
            f"{s.labels['model_version']} {s.labels.get('outcome') or s.labels.get('le')}": s.value for s in found
        }
        return list(found) if check(values) else None

    return eventually(probe, what="the scrape to show it")


def test_exact_counts_come_out_of_a_real_prometheus() -> None:
    exporter, port = Exporter(), free_port()
    with exposed(exporter, port), start_prometheus([f"127.0.0.1:{port}"]) as url:
        client = Prometheus(url, timeout=5, stale_after=10)
        exporter.serve("base", ok=100, error=2)
        exporter.serve("m@1", ok=1)
        first = seen(client, ERRORS, lambda v: v.get("base ok") == 100 and v.get("m@1 ok") == 1)
        readings = readings_of(ERRORS, first, "m@1")
        assert not isinstance(readings, NoData)
        assert {reading.cell for reading in readings} == {"ok", "error"}
        values, _ = increments({}, readings)

        exporter.serve("base", ok=33, error=1)
        exporter.serve("m@1", ok=7, error=3, slow=2)
        exporter.units.labels("m", "m@1").set(9)
        second = readings_of(
            ERRORS, seen(client, ERRORS, lambda v: v.get("base ok") == 133 and v.get("m@1 error") == 3), "m@1"
        )
        assert not isinstance(second, NoData)
        _, counts = increments(values, second)
        assert (counts["base"].bad, counts["base"].total) == (1, 34)
        assert (counts["m@1"].bad, counts["m@1"].total) == (3, 10)

        buckets = readings_of(LATENCY, seen(client, LATENCY, lambda v: v.get("m@1 +Inf") == 8), "m@1")
        assert not isinstance(buckets, NoData)
        _, slow = increments({target: {} for target in {r.target for r in buckets}}, buckets)
        assert (slow["m@1"].bad, slow["m@1"].total) == (2, 8)
        between = Guardrail(metric="latency", slo_seconds=0.3)
        assert isinstance(readings_of(between, seen(client, between, lambda v: "m@1 0.5" in v), "m@1"), NoData)

        units = client.newest(f'{UNITS}{{route="m",model_version="m@1"}}', now())
        assert not isinstance(units, NoData)
        assert [sample.value for sample in units] == [9]
        client.close()


def test_a_dead_exporter_is_stale_and_another_route_is_empty() -> None:
    exporter, port = Exporter(), free_port()
    with start_prometheus([f"127.0.0.1:{port}"]) as url:
        client = Prometheus(url, timeout=5, stale_after=1.5)
        with exposed(exporter, port):
            exporter.serve("m@1", ok=5)
            seen(client, ERRORS, lambda v: v.get("m@1 ok") == 5)
            empty = client.newest(selector_of(ERRORS, "other"), now())
            assert isinstance(empty, NoData)
            assert empty.kind == "empty"

        def stale() -> bool:
            found = client.newest(selector_of(ERRORS, "m"), now())
            return isinstance(found, NoData) and found.kind == "stale"

        eventually(stale, what="the dead exporter's samples to be called stale")
        refused = client.newest("this is no selector", now())
        assert isinstance(refused, NoData)
        assert refused.kind == "query_error"
        assert "parse error" in refused.reason
        client.close()
