"""The breaker of a replica: what opens it, and that one probe closes it. Time is given."""

import pytest

from services.gateway.balance import Balancer
from services.gateway.plan import Endpoint

A, B = "http://127.0.0.1:1", "http://127.0.0.1:2"
BOTH = [Endpoint("r0", A), Endpoint("r1", B)]


def chosen(balancer: Balancer, now: float) -> set[str]:
    """Where requests would go, each finished before the next."""
    return {endpoint.url for _ in range(6) if (endpoint := balancer.choose(BOTH, now))}


def opened(kind: str) -> Balancer:
    balancer = Balancer(failures=3, seconds=5)
    report = getattr(balancer, kind)
    assert [report(A, 10.0) for _ in range(3)] == [False, False, True]
    return balancer


@pytest.mark.parametrize("kind", ["refused", "failed"])
def test_failures_in_a_row_open_it(kind: str) -> None:
    balancer = opened(kind)
    assert chosen(balancer, 14.9) == {B}
    assert chosen(balancer, 15.0) == {A, B}


def test_failures_that_are_not_in_a_row_do_not() -> None:
    balancer = Balancer(failures=3, seconds=5)
    for _ in range(10):
        assert not balancer.failed(A, 1.0)
        assert not balancer.failed(A, 1.0)
        balancer.answered(A)
    assert chosen(balancer, 1.0) == {A, B}


def test_refusals_and_failures_are_counted_apart() -> None:
    balancer = Balancer(failures=3, seconds=5)
    assert not any(report(A, 1.0) for report in (balancer.refused, balancer.failed) for _ in range(2))


def test_one_probe_at_a_time() -> None:
    balancer = opened("failed")
    balancer.started(A, 15.0)
    assert chosen(balancer, 15.0) == {B}, "the probe is on its way"
    balancer.answered(A)
    balancer.finished(A)
    assert chosen(balancer, 15.1) == {A, B}
    assert not balancer.failed(A, 16.0), "the count begins anew"


def test_a_probe_that_fails_opens_it_again() -> None:
    balancer = opened("failed")
    balancer.started(A, 15.0)
    assert balancer.failed(A, 15.5)
    balancer.finished(A)
    assert chosen(balancer, 20.4) == {B}
    assert chosen(balancer, 20.5) == {A, B}


def test_a_probe_whose_client_left_makes_room_for_the_next() -> None:
    balancer = opened("failed")
    balancer.started(A, 15.0)
    balancer.finished(A)
    assert chosen(balancer, 15.1) == {A, B}


def test_a_connection_alone_does_not_make_up_for_failed_answers() -> None:
    balancer = opened("failed")
    balancer.connected(A)
    assert chosen(balancer, 14.0) == {B}
    by_refusals = opened("refused")
    by_refusals.connected(A)
    assert chosen(by_refusals, 10.0) == {A, B}


def test_an_open_one_is_better_than_none() -> None:
    balancer = opened("failed")
    assert balancer.choose(BOTH[:1], 11.0) == BOTH[0]


def test_a_failure_while_open_is_no_news() -> None:
    balancer = opened("failed")
    assert not balancer.failed(A, 12.0)
    assert chosen(balancer, 16.9) == {B}, "it is open for its whole time since the last failure"
