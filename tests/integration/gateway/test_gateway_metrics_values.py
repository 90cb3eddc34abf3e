"""After a known number of requests, every series has exactly the value that it must have."""

from collections import Counter
from pathlib import Path
from time import perf_counter

import pytest

from services.gateway.split import fingerprint, pick, position
from shared.events import CountedEvent
from tests.support.gateway_process import running_gateway, running_model_server, write_table
from tests.support.routes import BASE_MODEL, canary, loaded, ready

pytestmark = pytest.mark.integration

UNITS = [f"unit-{number}" for number in range(40)]


def version(unit: str) -> str:
    return "r@1" if pick(position(fingerprint("salt", unit)), candidate=4_000) == "candidate" else "base"


def test_metrics_are_exact(tmp_path: Path) -> None:
    with running_model_server(BASE_MODEL, "r@1") as url:
        counted = canary("r", None, "r@1", 4_000, revision=9).model_copy(
            update={"counted": [CountedEvent(event="served"), CountedEvent(event="errors")]}
        )
        write_table(tmp_path, counted, ready("one", url), loaded("one", url, "r@1"))
        with running_gateway(tmp_path, MAX_UNITS="1000") as gateway:
            for unit in UNITS:
                headers = {"x-tuneloop-unit": unit}
                gateway.chat("r", "say a b c", headers=headers)
                gateway.chat("r", "say a b c d", headers=headers, stream=True, stream_options={"include_usage": True})
                gateway.chat("r", "say a b", headers=headers, stream=True)
                gateway.chat("r", "status 500", headers=headers)
                gateway.chat("r", "status 400", headers=headers)
            users = Counter(version(unit) for unit in UNITS)
            assert set(users) == {"base", "r@1"}
            for label, n in users.items():
                target = {"route": "r", "model_version": label}
                assert gateway.requests("r", label) == {"ok": 3 * n, "error": n, "rejected": n}
                assert gateway.metric("request_duration_seconds_count", **target) == 3 * n
                assert gateway.metric("time_to_first_token_seconds_count", **target) == 2 * n
                assert gateway.metric("inter_token_seconds_count", **target) == (3 + 1) * n
                assert gateway.metric("tokens_total", kind="prompt", **target) == (5 + 5) * n
                assert gateway.metric("tokens_total", kind="completion", **target) == (3 + 4) * n
                assert gateway.metric("units_seen", **target) == n
                assert gateway.metric("unit_events_total", event="served", le="", times="1", **target) == n
                assert gateway.metric("unit_events_total", event="errors", le="", times="1", **target) == n
            assert gateway.metric("route_weight", route="r", model_version="r@1", role="candidate") == 4_000
            assert gateway.metric("route_weight", route="r", model_version="base", role="stable") == 6_000
            assert gateway.metric("route_revision", route="r") == 9
            assert gateway.metric("in_flight") == 0


def test_streams_are_timed(tmp_path: Path) -> None:
    """0.2 s before each of three words."""
    with running_model_server(BASE_MODEL) as url:
        write_table(tmp_path, canary("r", None, "r@1", 0), ready("one", url))
        with running_gateway(tmp_path) as gateway:
            begun = perf_counter()
            assert gateway.chat("r", "slow a b c", stream=True).status_code == 200
            waited = perf_counter() - begun
            target = {"route": "r", "model_version": "base"}
            first, gaps, whole = (gateway.metric(f"{name}_seconds_sum", **target) for name in (
                "time_to_first_token", "inter_token", "request_duration"))
            assert first is not None
            assert gaps is not None
            assert whole is not None
            assert (first > 0.19, gaps > 0.39) == (True, True)
            assert first + gaps <= whole <= waited
            assert gateway.metric("request_duration_seconds_bucket", le="0.5", **target) == 0
