"""Evidence by users is as strong, and as honest, with three gateways as with one: users meet all of them in turn."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from benchmarks.calibration.controller import agree, many, policy_for, read_all, whole
from benchmarks.calibration.scenarios import NO_CHANGE, TENFOLD, THREEFOLD, TRAFFIC, Hypothesis, Traffic
from benchmarks.calibration.traffic import counters
from services.gateway.plan import compile_plan
from services.gateway.split import fingerprint, pick, position
from services.gateway.table import RouteTable, apply
from services.gateway.unit_events import UnitEvents
from services.gateway.unit_teller import Met, grouped
from services.gateway.units import UnitCounter
from services.rollout.analysis.sample_ratio import SampleRatio
from services.rollout.met_units import count, counts_of
from services.rollout.models import Base, Route
from services.rollout.state import UnitState
from services.rollout.unit_counts import UnitReadings, counted
from shared.db import transaction
from shared.events import CountedEvent, UnitsMet
from tests.support.db import sqlite_engine
from tests.support.routes import START, canary, fact

RUNS = 30
BY_NAME = {traffic.name: traffic for traffic in TRAFFIC}


def rolled_back(traffic: Traffic, hypothesis: Hypothesis, gateways: int) -> float:
    """The share of rollouts; the first also goes through the whole reducer."""
    split = replace(traffic, gateways=gateways)
    policy = policy_for(split)
    drawn = counters(split, hypothesis, RUNS, np.random.default_rng(7))
    decisions = many(read_all(drawn, policy), split, policy)
    agree(drawn, decisions, split, policy, range(1))
    return float((decisions.rolled_back > 0).mean())


def test_power_does_not_fall_with_the_number_of_gateways() -> None:
    """1 % to 3 % in 120 looks, 3000 users who ask now and then."""
    power = [rolled_back(replace(BY_NAME["iid"], users=3000), THREEFOLD, gateways) for gateways in (1, 2, 3)]
    assert min(power) >= 0.7
    assert max(power) - min(power) <= 0.07, power


def test_a_user_who_fails_at_all_gateways_is_no_more_evidence() -> None:
    assert rolled_back(BY_NAME["gateways"], NO_CHANGE, 3) <= 0.1


# --- Whom they serve: the gateways' own code, and the controller's ----------------------------------------------------

SERVED = [CountedEvent(event="served")]
MEANT, USERS, LOOKS, REQUESTS = 1_000, 1_000, 10, 300
LATER = START + timedelta(minutes=1)


class Gateway:
    """Knows whom it has met, by `weight`, and what it has to tell."""

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.told: list[tuple[Met, int]] = []
        self._units = UnitCounter(limit=100_000)
        self._events = UnitEvents(CollectorRegistry(), limit=100_000)
        self._events.tell(lambda _route, _salt, met, unit: self.told.append((met, unit)))
        route = canary("r", None, "r@1", weight).model_copy(update={"counted": SERVED})
        self._events.use(compile_plan(apply(RouteTable(), fact(route))))

    def serve(self, user: int) -> None:
        mark = fingerprint("salt", f"user-{user}")
        label = "r@1" if pick(position(mark), candidate=self.weight) == "candidate" else "base"
        if self._units.add("r", label, "salt", mark)[1]:
            self._events.served("r", label, mark, named=True)


@dataclass(frozen=True)
class Outcome:
    """What the controller knows in the end, and how often it was told of somebody."""

    exposed: int
    split: SampleRatio
    told: int


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        with transaction(made) as session:
            session.add(Route(id="r", pipeline="r", base_model="tiny", salt="salt", updated_at=START,
                              counted=[each.model_dump(mode="json") for each in SERVED]))
        yield made


def rollout(engine: Engine, seed: int, gateways: int, weight: int = MEANT) -> Outcome:
    """Users who come again and again, each time to any gateway; one of the gateways forgets everybody on the way."""
    users = seed * USERS + np.random.default_rng(seed).integers(USERS, size=(LOOKS, REQUESTS))
    doors = np.random.default_rng(seed + 1).integers(gateways, size=users.shape)
    there = [Gateway(weight) for _ in range(gateways)]
    state, split, told = UnitState(), SampleRatio(), 0
    with transaction(engine) as session:
        for look in range(LOOKS):
            if look == LOOKS // 2:
                there[0] = Gateway(weight)
            for user, door in zip(users[look].tolist(), doors[look].tolist(), strict=True):
                there[door].serve(user)
            for gateway in there:
                count(session, UnitsMet(route="r", salt="salt", met=grouped(gateway.told)), LATER)
                told += len(gateway.told)
                gateway.told.clear()
            state, counts = counted(state, UnitReadings((), counts_of(session, ["r"]).get("r", {})))
            split = split.updated(dict(counts.new), {"base": 1 - MEANT / 10_000, "r@1": MEANT / 10_000})
        session.rollback()
    return Outcome(counts.served["r@1"], split, told)


def test_users_exposed_are_the_same_with_any_number_of_gateways_and_none_is_counted_twice(engine: Engine) -> None:
    truth = {user for user in np.random.default_rng(1).integers(USERS, size=(LOOKS, REQUESTS)).ravel().tolist()
             if position(fingerprint("salt", f"user-{USERS + user}")) < MEANT}
    found = {gateways: rollout(engine, 1, gateways) for gateways in (1, 2, 4)}
    assert {outcome.exposed for outcome in found.values()} == {len(truth)}
    assert found[4].told > 2 * USERS, "each gateway tells of nearly everybody"


def test_the_split_s_test_neither_errs_more_nor_sees_less_with_more_gateways(engine: Engine) -> None:
    right = [rollout(engine, seed, gateways).split for seed in range(2) for gateways in (1, 3)]
    assert not any(split.mismatched for split in right)
    wrong = [rollout(engine, 5, gateways, weight=MEANT // 2).split for gateways in (1, 3)]
    assert all(split.mismatched for split in wrong)
    assert len({split.model_dump_json() for split in [*right[:2], *wrong]}) == 2, "one gateway or three: no difference"


# --- Who judges -------------------------------------------------------------------------------------------------------

JUDGEMENTS = BY_NAME["clustered"]


def by_judgements(hypothesis: Hypothesis, *, named: bool) -> float:
    """The share of rollouts that a guardrail on thumbs_down rolls back, where few users judge nearly everything badly.

    Args:
        named: gateways tell who had asked for what is judged. Else the controller is left with each look's share.
    """
    policy = policy_for(JUDGEMENTS, {"metric": "thumbs_down"})
    drawn = counters(JUDGEMENTS, hypothesis, 60, np.random.default_rng(11))
    if named:
        decisions = many(read_all(drawn, policy), JUDGEMENTS, policy)
        agree(drawn, decisions, JUDGEMENTS, policy, range(2))
        return float((decisions.rolled_back > 0).mean())
    unnamed = replace(drawn, served=np.zeros_like(drawn.served))
    return float(np.mean([whole(unnamed, run, JUDGEMENTS, policy)[0] > 0 for run in range(60)]))


def test_users_who_judge_everything_badly_do_not_break_the_bound_where_they_are_counted() -> None:
    assert by_judgements(NO_CHANGE, named=True) <= 0.05
    assert by_judgements(NO_CHANGE, named=False) >= 0.1
    assert by_judgements(TENFOLD, named=True) >= 0.9
