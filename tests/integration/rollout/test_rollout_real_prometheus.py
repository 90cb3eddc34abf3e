"""Every guardrail against a real Prometheus that scrapes the gateway's own metrics: exact counts, and real faults."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import start_http_server

from services.gateway.metrics import GatewayMetrics
from services.rollout.analysis import Counts
from services.rollout.counts import Reading, increments
from services.rollout.observe import read
from services.rollout.prometheus import Prometheus
from services.rollout.samples import NoData
from shared.gateway_metrics import REQUESTS
from shared.pipeline import Guardrail
from tests.support.ports import free_port
from tests.support.prometheus import start_prometheus
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

ERRORS = Guardrail(metric="errors")
GUARDRAILS = (
    ERRORS, Guardrail(metric="latency", slo_seconds=0.5), Guardrail(metric="time_to_first_token", slo_seconds=0.5),
    Guardrail(metric="inter_token", slo_seconds=0.5), Guardrail(metric="thumbs_down"), Guardrail(metric="refusals"),
    Guardrail(metric="invalid_output"),
    Guardrail(
        metric="promql", name="mine",
        bad='tuneloop_gateway_requests_total{route="$route",model_version="$version",outcome="error"}',
        total='tuneloop_gateway_requests_total{model_version="$version",outcome="ok"} + '
              'tuneloop_gateway_requests_total{model_version="$version",outcome="error"}',
    ),
)
SELECTOR = f'{REQUESTS}{{route="m"}}'


class Exporter:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        self.metrics = GatewayMetrics()
        for version in ("base", "m@1"):
            self.metrics.target("m", version)

    def serve(self, version: str, *, ok: int, bad: int = 0) -> None:
        """`ok` good events and `bad` bad ones of each kind."""
        target = self.metrics.target("m", version)
        for number in range(ok + bad):
            good = number >= bad
            target.ended("ok" if good else "error")
            target.ended("rejected")
            for series in (target.duration, target.first_token, target.mean_gap):
                series.observe(0.2 if good else 3.0)
            target.judged("good" if good else "bad", 1.0 if good else -1.0)
            target.answers.given(refused=not good)
            target.answers.checked("valid" if good else "invalid")


@contextmanager
def exposed(exporter: Exporter, port: int) -> Iterator[None]:
    server, thread = start_http_server(port, "127.0.0.1", registry=exporter.metrics.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def now() -> datetime:
    return datetime.now(UTC)


def look(client: Prometheus, guardrail: Guardrail) -> tuple[Reading, ...] | NoData:
    return read(client, guardrail, now(), route="m", stable="base", candidate="m@1")


class Watcher:
    """Subtracts as the controller does."""

    def __init__(self, client: Prometheus, guardrail: Guardrail) -> None:
        self._client, self._guardrail = client, guardrail
        self._values: Mapping[str, Mapping[str, float]] = {}
        self._sums = {"base": Counts(), "m@1": Counts()}

    def counts(self) -> dict[str, Counts]:
        """All that was counted since the first look."""
        found = look(self._client, self._guardrail)
        if not isinstance(found, NoData):
            self._values, grown = increments(self._values, found)
            self._sums = {version: sums + grown[version] for version, sums in self._sums.items()}
        return self._sums

    def has(self, version: str, bad: int, total: int) -> bool:
        return self.counts()[version] == Counts(bad=bad, total=total)


def scraped(client: Prometheus, check: Callable[[dict[str, float]], bool]) -> bool:
    """Whether Prometheus has the values (by version and outcome) that are expected."""
    found = client.newest(SELECTOR, now())
    return not isinstance(found, NoData) and check(
        {f"{sample.labels['model_version']} {sample.labels['outcome']}": sample.value for sample in found}
    )


def test_exact_counts_of_every_guardrail_come_out_of_a_real_prometheus() -> None:
    exporter, port = Exporter(), free_port()
    with exposed(exporter, port), start_prometheus([f"127.0.0.1:{port}"]) as url:
        client = Prometheus(url, timeout=5, stale_after=10)
        exporter.serve("base", ok=100, bad=2)
        exporter.serve("m@1", ok=1)
        eventually(lambda: scraped(client, lambda v: v.get("base ok") == 100), what="the first scrape")
        watchers = {guardrail.called: Watcher(client, guardrail) for guardrail in GUARDRAILS}
        for name, watcher in watchers.items():
            assert watcher.counts()["base"] == Counts(), name

        exporter.serve("base", ok=33, bad=1)
        exporter.serve("m@1", ok=7, bad=3)
        eventually(lambda: scraped(client, lambda v: v.get("base ok") == 133 and v["m@1 error"] == 3))
        for name, watcher in watchers.items():
            assert watcher.counts() == {"base": Counts(bad=1, total=34), "m@1": Counts(bad=3, total=10)}, name

        between = look(client, Guardrail(metric="latency", slo_seconds=0.3))
        assert isinstance(between, NoData)
        assert between.kind == "no_bucket"
        client.close()


def test_a_dead_exporter_is_stale_and_another_route_is_empty() -> None:
    exporter, port = Exporter(), free_port()
    with start_prometheus([f"127.0.0.1:{port}"]) as url:
        client = Prometheus(url, timeout=5, stale_after=1.5)
        with exposed(exporter, port):
            exporter.serve("m@1", ok=5)
            eventually(lambda: scraped(client, lambda v: v.get("m@1 ok") == 5))
            empty = read(client, ERRORS, now(), route="other", stable="base", candidate="m@1")
            assert isinstance(empty, NoData)
            assert empty.kind == "empty"

        def stale(guardrail: Guardrail) -> bool:
            found = look(client, guardrail)
            return isinstance(found, NoData) and found.kind == "stale"

        for guardrail in GUARDRAILS:
            eventually(partial(stale, guardrail), what=f"stale samples of {guardrail.called}")
        refused = client.newest("this is no selector", now())
        assert isinstance(refused, NoData)
        assert refused.kind == "query_error"
        assert "parse error" in refused.reason
        client.close()


def test_a_gateway_and_a_prometheus_that_restart_lose_and_invent_nothing(tmp_path: Path) -> None:
    exporter, port, own = Exporter(), free_port(), free_port()
    client = Prometheus(f"http://127.0.0.1:{own}", timeout=5, stale_after=10)
    watchers = {guardrail.called: Watcher(client, guardrail) for guardrail in GUARDRAILS}

    def all_see(version: str, bad: int, total: int) -> None:
        """Every guardrail, with what was counted since its first look."""
        for name, watcher in watchers.items():
            eventually(partial(watcher.has, version, bad, total), what=name)

    with start_prometheus([f"127.0.0.1:{port}"], port=own, data=tmp_path):
        with exposed(exporter, port):
            exporter.serve("m@1", ok=50)
            eventually(lambda: scraped(client, lambda v: v.get("m@1 ok") == 50))
            all_see("m@1", 0, 0)
            exporter.serve("m@1", ok=8, bad=2)
            all_see("m@1", 2, 10)
        again = Exporter()
        with exposed(again, port):
            again.serve("m@1", ok=3, bad=1)
            all_see("m@1", 3, 14)
    away = look(client, ERRORS)
    assert isinstance(away, NoData)
    assert away.kind == "unreachable"
    with exposed(again, port):
        again.serve("m@1", ok=5)
        with start_prometheus([f"127.0.0.1:{port}"], port=own, data=tmp_path):
            all_see("m@1", 3, 19)
            assert watchers["errors"].counts()["base"] == Counts()
    client.close()
