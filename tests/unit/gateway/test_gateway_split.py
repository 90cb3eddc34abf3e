"""The split is uniform, sticky and monotonic."""

import math
from collections import Counter
from functools import cache
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from services.gateway.split import POSITIONS, fingerprint, pick, position

UNITS = [f"user-{number}" for number in range(40_000)]


@cache
def places(salt: str) -> list[int]:
    return [position(fingerprint(salt, unit)) for unit in UNITS]


WEIGHTS = [1, 10, 50, 100, 500, 1000, 2500, 3333, 5000, 7500, 9000, 9900, 9999]


def test_the_hash_is_the_one_that_the_contract_names() -> None:
    expected = int.from_bytes(blake2b(b"salt\0anna", digest_size=8).digest()) % 10_000
    assert position(fingerprint("salt", "anna")) == expected


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_weight_gets_its_share(weight: int) -> None:
    """Chi-square with one degree of freedom; 13 weights and 3 salts, so each at 1e-5 keeps the whole below 1e-3."""
    for salt in ("rollout-1", "rollout-2", "rollout-3"):
        hits = sum(pick(place, candidate=weight) == "candidate" for place in places(salt))
        expected = len(UNITS) * weight / POSITIONS
        statistic = (hits - expected) ** 2 / expected + (hits - expected) ** 2 / (len(UNITS) - expected)
        assert statistic < chi2.ppf(1 - 1e-5, 1), f"{hits} of {len(UNITS)} at {weight} basis points"


def test_positions_are_uniform() -> None:
    """Chi-square over 100 bins of 100 positions each."""
    counts = Counter(place // 100 for place in places("rollout-1"))
    expected = len(UNITS) / 100
    statistic = sum((counts[cell] - expected) ** 2 / expected for cell in range(100))
    assert statistic < chi2.ppf(1 - 1e-5, 99)


def test_a_new_salt_deals_anew() -> None:
    """Of a 10 % arm about 10 % are in the next rollout's arm again, and not all."""
    first = {unit for unit in UNITS if position(fingerprint("a", unit)) < 1000}
    second = {unit for unit in UNITS if position(fingerprint("b", unit)) < 1000}
    expected, deviation = len(UNITS) * 0.01, math.sqrt(len(UNITS) * 0.01 * 0.99)
    assert abs(len(first & second) - expected) < 5 * deviation


@given(place=st.integers(0, POSITIONS - 1), weights=st.tuples(st.integers(0, POSITIONS), st.integers(0, POSITIONS)))
def test_a_higher_weight_moves_nobody_back(place: int, weights: tuple[int, int]) -> None:
    low, high = sorted(weights)
    if pick(place, candidate=low) == "candidate":
        assert pick(place, candidate=high) == "candidate"


@given(place=st.integers(0, POSITIONS - 1), candidate=st.integers(0, 5000), control=st.integers(0, 5000))
def test_control_takes_from_stable_only(place: int, candidate: int, control: int) -> None:
    alone, beside = pick(place, candidate=candidate), pick(place, candidate=candidate, control=control)
    assert alone == beside or (alone == "stable" and beside == "control")


@pytest.mark.parametrize(
    ("candidate", "control"), [(0, 0), (1, 1), (1000, 1000), (10_000, 0), (0, 10_000), (2500, 7500)]
)
def test_shares_are_exact(candidate: int, control: int) -> None:
    counts = Counter(pick(place, candidate=candidate, control=control) for place in range(POSITIONS))
    assert (counts["candidate"], counts["control"]) == (candidate, control)
    assert counts["stable"] == POSITIONS - candidate - control


@given(salt=st.text(), unit=st.text())
def test_any_text_has_a_position(salt: str, unit: str) -> None:
    assert 0 <= position(fingerprint(salt, unit)) < POSITIONS


def test_a_lone_surrogate_has_a_position() -> None:
    assert 0 <= position(fingerprint("salt", "\ud800")) < POSITIONS
