"""The data-fault matrix, through the real client and the real reducer: no fault is ever success, or harm, or zero.

Each fault hits a rollout that lacks nothing for its next step but this look's data. It must hold, say why, and go on by
itself once the data is back.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from services.rollout.counts import Reading
from services.rollout.decide import step
from services.rollout.guardrails import DURATION, REQUESTS, NoData, name_of, readings_of, selector_of
from services.rollout.prometheus import Prometheus
from services.rollout.state import Observation
from tests.support.prometheus import SpeakingPrometheus, speak_prometheus
from tests.support.rollouts import CANDIDATE, LOADED, STABLE, World

pytestmark = pytest.mark.integration
Arrange = Callable[["Faulty"], None]


class Faulty(World):
    """A world that is seen through a real HTTP client."""

    def __init__(self, server: SpeakingPrometheus, client: Prometheus) -> None:
        super().__init__()
        self.server, self.client = server, client
        self.loading = LOADED
        self.publish()
        for _ in range(3):
            self.tick()

    def publish(self, *, age: float = 0.0, versions: tuple[str, ...] = (STABLE, CANDIDATE)) -> None:
        """What a gateway shows: both metrics, from the world's counters."""
        self.server.series = {REQUESTS: [], DURATION: []}
        for (name, gateway, version), (bad, total) in self.counters.items():
            if version not in versions:
                continue
            labels = {"job": "gateway", "instance": gateway, "route": "m", "model_version": version}
            if name == "errors":
                cells = {"outcome": {"ok": total - bad, "error": bad}}
                metric = REQUESTS
            else:
                cells = {"le": {"0.5": 0, "1.0": total - bad, "+Inf": total}}
                metric = DURATION
            for label, values in cells.items():
                self.server.series[metric] += [
                    ({**labels, label: cell}, str(value), age) for cell, value in values.items()
                ]

    def tick(self, seconds: float = 5.0) -> None:
        """One look through HTTP."""
        self.clock.advance(seconds)
        self.state, self.effects = step(self.state, self.seen(), self.now, self.policy)

    def seen(self) -> Observation:
        readings: dict[str, tuple[Reading, ...] | NoData] = {}
        for guardrail in self.policy.guardrails:
            found = self.client.newest(selector_of(guardrail, "m"), self.now)
            readings[name_of(guardrail)] = (
                found if isinstance(found, NoData) else readings_of(guardrail, found, CANDIDATE)
            )
        return replace(self.observation(), readings=readings)

    def spoil(self, value: str) -> None:
        """Give the last series of each metric a value that no counter has."""
        for series in self.server.series.values():
            labels, _, age = series[-1]
            series[-1] = labels, value, age

    def stop(self) -> None:
        """Nobody listens where Prometheus should be."""
        self.client.close()
        self.client = Prometheus("http://127.0.0.1:9", timeout=1, stale_after=15)

    def without(self, label: str, value: str) -> None:
        for name, series in self.server.series.items():
            self.server.series[name] = [item for item in series if item[0].get(label) != value]


@pytest.fixture
def world() -> Iterator[Faulty]:
    with speak_prometheus() as server:
        client = Prometheus(server.url, timeout=0.5, stale_after=15)
        faulty = Faulty(server, client)
        yield faulty
        faulty.client.close()


FAULTS: dict[str, tuple[Arrange, str]] = {
    "nobody listens": (lambda w: w.stop(), "cannot be reached"),
    "timeout": (lambda w: setattr(w.server, "fault", "hang"), "did not answer within 0.5 s"),
    "500 with HTML": (lambda w: setattr(w.server, "fault", (500, "<html>")), "answered HTTP 500 without JSON"),
    "503 with JSON": (
        lambda w: setattr(w.server, "fault", (503, '{"status":"error","error":"query timed out"}')), "query timed out"
    ),
    "200 with an error": (
        lambda w: setattr(w.server, "fault", (200, '{"status":"error","error":"parse error"}')), "parse error"
    ),
    "200 with another JSON": (lambda w: setattr(w.server, "fault", (200, "[]")), "no reason given"),
    "200 with a scalar": (
        lambda w: setattr(w.server, "fault", (200, '{"status":"success","data":{"result":[1,"2"]}}')),
        "something else than samples",
    ),
    "no series": (lambda w: w.server.series.clear(), "Prometheus has no series"),
    "no candidate": (lambda w: w.publish(versions=(STABLE,)), "no fresh samples of m@2"),
    "stale": (lambda w: w.publish(age=40), "is 40 s old, over 15 s"),
    "NaN": (lambda w: w.spoil("NaN"), "has the value nan"),
    "+Inf": (lambda w: w.spoil("+Inf"), "has the value inf"),
    "-Inf": (lambda w: w.spoil("-Inf"), "has the value -inf"),
    "negative": (lambda w: w.spoil("-3"), "has the value -3"),
    "no bucket at the SLO": (lambda w: w.without("le", "1.0"), "has no bucket le=1; it has 0.5, inf"),
}


@pytest.mark.parametrize(("arrange", "why"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_holds_and_says_why_and_passes(world: Faulty, arrange: Arrange, why: str) -> None:
    assert (world.state.phase, world.state.step) == ("progressing", 1)
    world.serve(200, 50)
    world.publish()
    arrange(world)
    for _ in range(4):
        world.tick()
    assert (world.state.phase, world.state.step, world.state.weight) == ("progressing", 1, 2000)
    assert "no data for" in world.state.reason
    assert why in world.state.reason
    assert world.state.step_seconds < 15, "time passed without data"

    world.server.fault = None
    if why == "cannot be reached":
        world.client.close()
        world.client = Prometheus(world.server.url, timeout=0.5, stale_after=15)
    world.publish()
    world.tick()
    world.tick()
    assert world.state.guardrails["errors"].evidence.candidate.total == 50, "what happened meanwhile was lost"
    assert world.state.step == 2


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
