"""The breaker of a replica: what opens it, and that one probe closes it. Time is given."""

from functools import partial

import pytest

from services.gateway.balance import Balancer
from services.gateway.plan import Endpoint

A, B = "http://127.0.0.1:1", "http://127.0.0.1:2"
M, OTHER = "m@1", "m@2"
BOTH = [Endpoint("r0", A), Endpoint("r1", B)]


def chosen(balancer: Balancer, now: float, model: str = M) -> set[str]:
    """Where requests would go, each finished before the next."""
    return {endpoint.url for _ in range(6) if (endpoint := balancer.choose(BOTH, model, now))}


def fails(balancer: Balancer, url: str, now: float) -> bool:
    return balancer.failed(url, M, now)


def opened(kind: str) -> Balancer:
    balancer = Balancer(failures=3, seconds=5)
    report = balancer.refused if kind == "refused" else partial(fails, balancer)
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
        assert not balancer.failed(A, M, 1.0)
        assert not balancer.failed(A, M, 1.0)
        balancer.answered(A, M)
    assert chosen(balancer, 1.0) == {A, B}


def test_refusals_and_failures_are_counted_apart() -> None:
    balancer = Balancer(failures=3, seconds=5)
    assert not any(report(A, 1.0) for report in (balancer.refused, partial(fails, balancer)) for _ in range(2))


def test_one_probe_at_a_time() -> None:
    balancer = opened("failed")
    balancer.started(A, M, 15.0)
    assert chosen(balancer, 15.0) == {B}, "the probe is on its way"
    balancer.answered(A, M)
    balancer.finished(A, M)
    assert chosen(balancer, 15.1) == {A, B}
    assert not balancer.failed(A, M, 16.0), "the count begins anew"


def test_a_probe_that_fails_opens_it_again() -> None:
    balancer = opened("failed")
    balancer.started(A, M, 15.0)
    assert balancer.failed(A, M, 15.5)
    balancer.finished(A, M)
    assert chosen(balancer, 20.4) == {B}
    assert chosen(balancer, 20.5) == {A, B}


def test_a_probe_whose_client_left_makes_room_for_the_next() -> None:
    balancer = opened("failed")
    balancer.started(A, M, 15.0)
    balancer.finished(A, M)
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
    assert balancer.choose(BOTH[:1], M, 11.0) == BOTH[0]


def test_a_failure_while_open_is_no_news() -> None:
    balancer = opened("failed")
    assert not balancer.failed(A, M, 12.0)
    assert chosen(balancer, 16.9) == {B}, "it is open for its whole time since the last failure"


def test_a_model_that_fails_costs_other_models_nothing_but_a_server_that_is_gone_is_gone_for_all() -> None:
    assert chosen(opened("failed"), 11.0, OTHER) == {A, B}
    assert chosen(opened("refused"), 11.0, OTHER) == {B}


def test_another_models_answer_does_not_close_it() -> None:
    balancer = opened("failed")
    balancer.answered(A, OTHER)
    assert chosen(balancer, 11.0) == {B}
