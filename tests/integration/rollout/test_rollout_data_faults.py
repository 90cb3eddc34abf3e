"""The data-fault matrix over real HTTP, with two guardrails at once. tests/unit has it for every kind of guardrail."""

from collections.abc import Iterator

import pytest

from services.rollout.prometheus import Prometheus
from tests.support.prometheus import speak_prometheus
from tests.support.rollout_faults import FAULTS, GUARDRAILS, Arrange, Faulty, assert_holds_and_goes_on

pytestmark = pytest.mark.integration


@pytest.fixture
def world() -> Iterator[Faulty]:
    with speak_prometheus() as server:
        faulty = Faulty(
            server, lambda: Prometheus(server.url, timeout=0.5, stale_after=15),
            GUARDRAILS["errors"], GUARDRAILS["latency>1s"],
        )
        yield faulty
        faulty.client.close()


@pytest.mark.parametrize(("arrange", "why"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_holds_and_says_why_and_passes(world: Faulty, arrange: Arrange, why: str) -> None:
    assert_holds_and_goes_on(world, arrange, why)


def test_nobody_listens_where_prometheus_should_be(world: Faulty) -> None:
    def stop(faulty: Faulty) -> None:
        faulty.client.close()
        faulty.client = Prometheus("http://127.0.0.1:9", timeout=1, stale_after=15)

    assert_holds_and_goes_on(world, stop, "cannot be reached")


def test_a_histogram_without_a_bucket_at_the_slo(world: Faulty) -> None:
    world.serve(200, 50)
    world.publish()
    world.without("le", "1.0")
    world.tick()
    assert world.state.step == 1
    assert "no data for latency>1s because the histogram has no bucket le=1; it has 0.5, inf" in world.state.reason


def test_a_counter_reset_is_neither_negative_nor_lost(world: Faulty) -> None:
    world.serve(200, 50)
    world.publish()
    world.tick()
    world.restart_gateway()
    world.serve(8, 3, bad=1)
    world.publish()
    world.tick()
    evidence = world.state.guardrails["errors"].evidence
    assert (evidence.candidate.bad, evidence.candidate.total, evidence.stable.total) == (1, 53, 208)


def test_every_gateway_counts_and_a_dead_one_is_left_out(world: Faulty) -> None:
    world.counters |= {(name, "gw-2", version): (0, 0) for name, _, version in list(world.counters)}
    world.publish()
    world.tick()
    for key in world.counters:
        world.counters[key] = (0, 30)
    world.publish()
    world.tick()
    assert world.state.guardrails["errors"].evidence.candidate.total == 60
    for key in world.counters:
        world.counters[key] = (0, 40)
    world.publish()
    for series in world.server.series.values():
        series[:] = [(labels, value, 60.0 if labels["instance"] == "gw-2" else 0.0) for labels, value, _ in series]
    world.tick()
    assert world.state.guardrails["errors"].evidence.candidate.total == 70
