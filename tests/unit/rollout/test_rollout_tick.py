"""The metric that says what one look at each rollout costs a controller."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from services.rollout.metrics import FORGET, TickCpu

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def shown() -> float | None:
    return REGISTRY.get_sample_value("tuneloop_rollout_tick_cpu_seconds")


def test_a_tick_is_the_last_look_at_each_rollout_with_its_share_of_what_looks_do_together() -> None:
    tick = TickCpu()
    tick.prepared(2, 0.2, NOW)
    tick.looked("a", 0.3, NOW)
    tick.looked("b", 0.1, NOW)
    assert shown() == pytest.approx(0.6)
    tick.stored(["a", "b"], 0.2)
    assert shown() == pytest.approx(0.8)
    later = NOW + timedelta(seconds=10)
    tick.prepared(1, 0.1, later)
    tick.looked("a", 0.1, later)
    assert shown() == pytest.approx(0.5), "the newer look at a takes the place of the older"


def test_a_rollout_that_nobody_looks_at_any_more_costs_nothing() -> None:
    tick = TickCpu()
    tick.prepared(2, 0.0, NOW)
    tick.looked("ended", 0.3, NOW)
    later = NOW + FORGET
    tick.prepared(1, 0.0, later)
    tick.looked("a", 0.1, later)
    assert shown() == pytest.approx(0.1)
