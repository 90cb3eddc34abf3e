"""Evidence by users is as strong, and as honest, with three gateways as with one: users meet all of them in turn."""

from dataclasses import replace

import numpy as np

from benchmarks.calibration.controller import agree, many, policy_for, read_all
from benchmarks.calibration.scenarios import NO_CHANGE, TENFOLD, THREEFOLD, TRAFFIC, Hypothesis, Traffic
from benchmarks.calibration.traffic import counters

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


def test_each_gateway_counts_a_user_and_the_controller_counts_him_once() -> None:
    """What would be counted if the gateways' counts were added up is far more."""
    drawn = counters(BY_NAME["gateways"], TENFOLD, 1, np.random.default_rng(1))
    users = BY_NAME["gateways"].users
    assert drawn.units[0, -1, :, 0].sum() < users
    assert drawn.new[0, -1].sum() > 2 * users
