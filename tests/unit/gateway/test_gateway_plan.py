"""Which targets a route really has: only those that a replica confirmed."""

import pytest

from services.gateway.balance import Balancer
from services.gateway.plan import Endpoint, Plan, RoutePlan, compile_plan
from services.gateway.table import RouteTable, apply
from services.gateway.units import UnitCounter
from shared.events import Payload
from shared.served_names import control_of, version_of
from tests.support.routes import canary, fact, loaded, ready, route, target, unloaded

A, B = "http://127.0.0.1:1", "http://127.0.0.1:2"


def plan_of(*payloads: Payload) -> Plan:
    table = RouteTable()
    for second, payload in enumerate(payloads):
        table = apply(table, fact(payload, second=second, sequence=second))
    return compile_plan(table)


def test_base_model_is_asked_by_its_own_name_on_the_replicas_that_have_it() -> None:
    stable = plan_of(route("intents"), ready("r0", A), ready("r1", B, base_model="other")).routes["intents"].choose(0)
    assert (stable.label, stable.upstream_model, stable.endpoints) == ("base", "tiny", (Endpoint("r0", A),))


def test_adapter_is_asked_by_its_version() -> None:
    chosen = plan_of(route("intents", target("intents@3", "stable", 10_000)), loaded("r0", A, "intents@3"))
    assert chosen.routes["intents"].choose(9_999).upstream_model == "intents@3"


def test_weight_waits_for_the_first_confirmation() -> None:
    spec = canary("intents", None, "intents@1", 2_500)
    before = plan_of(spec, ready("r0", A)).routes["intents"]
    assert before.choose(0).role == "stable"
    assert before.targets["candidate"].weight == 2_500
    assert before.targets["candidate"].effective_weight == 0
    assert before.targets["stable"].effective_weight == 10_000
    after = plan_of(spec, ready("r0", A), loaded("r0", A, "intents@1")).routes["intents"]
    roles = [after.choose(place).role for place in (0, 2_499, 2_500, 9_999)]
    assert roles == ["candidate", "candidate", "stable", "stable"]
    assert after.targets["stable"].effective_weight == 7_500
    gone = plan_of(spec, ready("r0", A), loaded("r0", A, "intents@1"), unloaded("r0", A, "intents@1")).routes["intents"]
    assert gone.choose(0).role == "stable"


def test_only_confirmed_replicas_get_the_candidate() -> None:
    spec = canary("intents", None, "intents@1", 5_000)
    plan = plan_of(spec, ready("r0", A), ready("r1", B), loaded("r1", B, "intents@1"))
    assert [e.replica for e in plan.routes["intents"].choose(0).endpoints] == ["r1"]
    assert [e.replica for e in plan.routes["intents"].choose(9_999).endpoints] == ["r0", "r1"]


def with_control(*confirmed: str, stable: str | None = "intents@1") -> RoutePlan:
    """A candidate and a control at 20 % each, of which a replica confirmed some."""
    control = control_of(stable) if stable else None
    spec = route("intents", target(stable, "stable", 6_000), target("intents@2", "candidate", 2_000),
                 target(control, "control", 2_000))
    return plan_of(spec, ready("r0", A), *(loaded("r0", A, name) for name in confirmed)).routes["intents"]


def test_a_control_is_stable_under_a_name_of_its_own() -> None:
    plan = with_control("intents@1", "intents@1-control", "intents@2")
    roles = [plan.choose(place).role for place in (0, 1_999, 2_000, 7_999, 8_000, 9_999)]
    assert roles == ["candidate", "candidate", "stable", "stable", "control", "control"]
    chosen = plan.choose(9_999)
    assert (chosen.label, chosen.upstream_model) == ("intents@1-control", "intents@1-control")
    assert version_of(chosen.label) == "intents@1"


def test_the_base_model_as_control_is_asked_by_its_own_name_and_counted_by_another() -> None:
    chosen = with_control("intents@2", stable=None).choose(9_999)
    assert (chosen.label, chosen.upstream_model) == ("base-control", "tiny")
    assert version_of(chosen.label) is None


@pytest.mark.parametrize("confirmed", [("intents@1", "intents@2"), ("intents@1", "intents@1-control")])
def test_neither_candidate_nor_control_gets_anything_without_the_other(confirmed: tuple[str, ...]) -> None:
    """Else one would be compared with what was counted of the other at another time."""
    plan = with_control(*confirmed)
    assert {plan.choose(place).role for place in (0, 5_000, 9_999)} == {"stable"}
    assert plan.targets["stable"].effective_weight == 10_000


def test_stable_without_a_replica_stays_stable() -> None:
    """The candidate must not quietly take over what the split did not give it."""
    plan = plan_of(canary("intents", "intents@1", "intents@2", 5_000), loaded("r0", A, "intents@2"))
    assert plan.routes["intents"].choose(9_999).endpoints == ()


R0, R1 = Endpoint("r0", A), Endpoint("r1", B)


def test_requests_go_where_fewest_are_in_flight() -> None:
    balancer = Balancer(failures=3, seconds=5)
    balancer.started(A, "m", 0)
    assert [balancer.choose([R0, R1], "m", 0) for _ in range(4)] == [R1] * 4
    balancer.finished(A, "m")
    assert {balancer.choose([R0, R1], "m", 0) for _ in range(4)} == {R0, R1}


def test_a_replica_that_refuses_is_skipped_for_a_while() -> None:
    balancer = Balancer(failures=3, seconds=5)
    assert [balancer.refused(A, now=10.0) for _ in range(3)] == [False, False, True]
    assert {balancer.choose([R0, R1], "m", 14.9) for _ in range(4)} == {R1}
    assert balancer.choose([R0], "m", 14.9) == R0, "an ejected replica is better than none"
    assert balancer.choose([R0, R1], "m", 14.9, tried={B}) == R0
    assert {balancer.choose([R0, R1], "m", 15.0) for _ in range(4)} == {R0, R1}
    balancer.connected(A)
    assert balancer.refused(A, now=16.0) is False, "one connection makes it well"


def test_all_tried_is_none() -> None:
    assert Balancer(failures=1, seconds=1).choose([R0], "m", 0, tried={A}) is None


def test_units_are_exact_up_to_the_limit_and_begin_anew_with_the_salt() -> None:
    units = UnitCounter(limit=3)
    assert [units.add("r", "base", "s", mark)[0] for mark in (1, 2, 2, 1, 3, 4, 5)] == [1, 2, 2, 2, 3, 3, 3]
    assert units.count("r", "r@1", "s") == 0
    assert units.add("r", "base", "t", 1) == (1, True)
    units.keep_only(set())
    assert units.count("r", "base", "t") == 0


def test_a_unit_is_new_to_each_version_once_and_the_limit_is_one_for_all_of_a_route() -> None:
    units = UnitCounter(limit=3)
    assert [units.add("r", "base", "s", 1) for _ in range(2)] == [(1, True), (1, False)]
    assert units.add("r", "r@1", "s", 1) == (1, True), "it has moved"
    assert units.add("r", "r@1", "s", 2) == (2, True)
    assert [units.add("r", label, "s", 3) for label in ("base", "r@1")] == [(1, False), (2, False)], "alike for all"
    assert units.add("other", "r@1", "s", 2) == (1, True)
    assert units.add("r", "r@1", "t", 1) == (1, True), "a new salt deals anew"
