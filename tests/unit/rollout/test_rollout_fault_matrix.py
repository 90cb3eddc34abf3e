"""Every fault of Prometheus with every kind of guardrail, on a fake transport: never success, harm or zero."""

from collections.abc import Iterator
from urllib.parse import parse_qs

import httpx
import pytest

from services.rollout.prometheus import Prometheus
from shared.pipeline import Guardrail
from tests.support.prometheus import SpeakingPrometheus
from tests.support.rollout_faults import FAULTS, GUARDRAILS, Arrange, Faulty, assert_holds_and_goes_on
from tests.support.rollouts import CANDIDATE, STABLE


def connect(server: SpeakingPrometheus) -> Prometheus:
    def answer(request: httpx.Request) -> httpx.Response:
        if server.fault == "hang":
            raise httpx.ReadTimeout("no answer", request=request)
        if server.fault == "away":
            raise httpx.ConnectError("connection refused", request=request)
        status, body = server.answer(parse_qs(request.content.decode()))
        return httpx.Response(status, text=body)

    return Prometheus("http://prometheus", timeout=0.5, stale_after=15, transport=httpx.MockTransport(answer))


@pytest.fixture(params=GUARDRAILS)
def world(request: pytest.FixtureRequest) -> Iterator[Faulty]:
    server = SpeakingPrometheus()
    faulty = Faulty(server, lambda: connect(server), GUARDRAILS[request.param])
    yield faulty
    faulty.client.close()


CELLS: dict[str, tuple[Arrange, str]] = {
    **FAULTS, "nobody listens": (lambda w: setattr(w.server, "fault", "away"), "cannot be reached: connection refused"),
}


@pytest.mark.parametrize(("arrange", "why"), CELLS.values(), ids=CELLS.keys())
def test_a_fault_holds_and_says_why_and_passes(world: Faulty, arrange: Arrange, why: str) -> None:
    assert_holds_and_goes_on(world, arrange, why)


def counts(world: Faulty) -> tuple[int, int, int, int]:
    [mine] = world.state.guardrails.values()
    stable, candidate = mine.evidence.stable, mine.evidence.candidate
    return stable.bad, stable.total, candidate.bad, candidate.total


def test_a_counter_reset_is_neither_negative_nor_lost(world: Faulty) -> None:
    world.serve(200, 50, bad=2)
    world.publish()
    world.tick()
    world.restart_gateway()
    world.serve(8, 3, bad=1)
    world.publish()
    world.tick()
    assert counts(world) == (0, 208, 3, 53)


def test_several_gateways_add_up_and_one_that_died_is_left_out(world: Faulty) -> None:
    [name] = world.state.guardrails
    for version in (STABLE, CANDIDATE):
        world.counters[name, "gw-2", version] = (0, 0)
    world.publish()
    world.tick()
    world.counters = dict.fromkeys(world.counters, (1, 30))
    world.publish()
    world.tick()
    assert counts(world) == (2, 60, 2, 60)
    world.counters = dict.fromkeys(world.counters, (1, 40))
    world.publish()
    for series in world.server.series.values():
        series[:] = [(labels, value, 60.0 if labels["instance"] == "gw-2" else 0.0) for labels, value, _ in series]
    world.tick()
    assert counts(world) == (2, 70, 2, 70)


def test_labels_that_were_added_on_the_way_make_series_of_their_own(world: Faulty) -> None:
    """Two pods behind one instance label: the last of them must not win."""
    world.serve(200, 50, bad=1)
    world.publish()
    for series in world.server.series.values():
        series[:] = [({**labels, "pod": pod}, value, age) for labels, value, age in series for pod in ("a", "b")]
    world.tick()
    assert counts(world) == (0, 400, 2, 100)


def test_a_stable_version_that_is_gone_leaves_the_tolerable_rate(world: Faulty) -> None:
    world.serve(0, 120)
    world.publish(versions=(CANDIDATE,))
    world.tick()
    assert counts(world) == (0, 0, 0, 120)


def toxic(**changes: object) -> Faulty:
    server = SpeakingPrometheus()
    guardrail = Guardrail.model_validate({**GUARDRAILS["toxic"].model_dump(by_alias=False), **changes})
    return Faulty(server, lambda: connect(server), guardrail)


TOTAL = 'app_all_total{model="$version"}'


@pytest.mark.parametrize("lenient", [True, False])
def test_a_counter_of_bad_events_that_is_not_there_yet_is_zero_only_where_the_policy_says_so(lenient: bool) -> None:
    world = toxic(total=TOTAL, missing_bad_is_zero=lenient)
    world.server.series = {"app_all_total": [
        ({"job": "app", "instance": "a", "model": version}, "40", 0.0) for version in (STABLE, CANDIDATE)
    ]}
    world.tick()
    [mine] = world.state.guardrails.values()
    assert mine.verdict == ("undecided" if lenient else "no_data")
    assert lenient or "Prometheus has no series app_toxic_total" in world.state.reason
    world.client.close()


def test_a_counter_of_bad_events_that_went_stale_is_never_zero() -> None:
    world = toxic(total=TOTAL, missing_bad_is_zero=True)
    labels = {"job": "app", "instance": "a", "model": CANDIDATE, "route": "m"}
    world.server.series = {"app_all_total": [(labels, "40", 0.0)], "app_toxic_total": [(labels, "3", 60.0)]}
    world.tick()
    assert "is 60 s old" in world.state.reason
    world.client.close()


def test_more_bad_events_than_events_hold_and_name_the_numbers() -> None:
    world = toxic(total=TOTAL)
    labels = {"job": "app", "instance": "a", "model": CANDIDATE, "route": "m"}
    for total, bad in (("1", "1"), ("5", "9")):
        world.server.series = {"app_all_total": [(labels, total, 0.0)], "app_toxic_total": [(labels, bad, 0.0)]}
        world.tick()
    assert "m@2 grew by 8 bad events and 4 events in all" in world.state.reason
    world.client.close()
