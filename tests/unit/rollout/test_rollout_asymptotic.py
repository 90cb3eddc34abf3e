"""The sums of looks that an interval without users is made of: what they keep, and what they weigh."""

import json

import pytest

from services.rollout import abtest
from services.rollout.analysis import Counts
from services.rollout.analysis.asymptotic import LEAST, LookSums
from services.rollout.state import ObjectiveState
from shared.pipeline import AbTest
from tests.support.rollouts import TOXIC


def after(looks: int, stable: tuple[int, int] = (10, 100), candidate: tuple[int, int] = (5, 100)) -> LookSums:
    """So many looks that vary a little."""
    found = LookSums()
    for look in range(looks):
        odd = look % 2
        found = found.updated(Counts(bad=stable[0] + odd, total=stable[1]),
                              Counts(bad=candidate[0] + 1 - odd, total=candidate[1]))
    return found


def test_nothing_is_said_before_there_are_looks_enough() -> None:
    early, later = after(int(LEAST) - 1).interval(0.05), after(int(LEAST)).interval(0.05)
    assert (early.low, early.high) == (-1.0, 1.0)
    assert early.estimate == pytest.approx(-0.05, abs=0.001)
    assert -0.2 < later.low < -0.05 < later.high < 0.1


def test_nothing_is_said_of_one_version_alone() -> None:
    found = LookSums()
    for _ in range(40):
        found = found.updated(Counts(bad=1, total=10), Counts())
    assert found.interval(0.05).model_dump() == {"low": -1.0, "high": 1.0, "estimate": None}


def test_a_look_without_events_is_none() -> None:
    assert after(30).updated(Counts(), Counts()) == after(30)


def test_one_look_after_an_outage_counts_as_what_it_has() -> None:
    """All that was missed comes in one look, which is no better known than one look is."""
    found = after(60).updated(Counts(bad=600, total=6000), Counts(bad=300, total=6000))
    assert found.looks == 61
    assert found.of_equal_size == pytest.approx(12_000**2 / (60 * 100**2 + 6000**2))
    assert found.interval(0.05).high == 1.0
    assert found.interval(0.05).estimate == pytest.approx(-0.05, abs=0.003)


def test_a_version_without_bad_events_is_not_sure_to_have_none() -> None:
    found = LookSums()
    for _ in range(30):
        found = found.updated(Counts(bad=0, total=100), Counts(bad=0, total=10))
    assert found.interval(0.05).high > 0.02


def test_clumps_within_looks_widen_it() -> None:
    def width(clump: int) -> float:
        found = LookSums()
        for look in range(240):
            stable, candidate = (clump if look % clump == at else 0 for at in (0, clump // 2))
            found = found.updated(Counts(bad=stable, total=100), Counts(bad=candidate, total=50))
        interval = found.interval(0.05)
        return interval.high - interval.low

    assert width(10) > 2 * width(1)


def test_json_loses_nothing_of_large_counts() -> None:
    found = after(40, (10**9 + 1, 10**12 + 7), (3 * 10**8, 10**11 + 3))
    assert LookSums.model_validate_json(found.model_dump_json()) == found
    assert found.interval(0.05).estimate == pytest.approx(0.002, abs=1e-6)


def test_a_state_of_an_earlier_release_loads_and_says_nothing_for_a_while() -> None:
    stored = json.loads(ObjectiveState(stable=Counts(bad=2000, total=10_000), candidate=Counts(total=10_000))
                        .model_dump_json())
    del stored["looks"]
    state = ObjectiveState.model_validate(stored)
    assert state.looks == LookSums()
    found = abtest.effect(state, TOXIC, 0.05)
    assert (found.low, found.high, found.estimate) == (-1.0, 1.0, 0.2)


@pytest.mark.parametrize(("looks", "told"), [(12, "needs 25 looks of equal size; those so far are worth 12"), (25, "")])
def test_it_is_said_why_nothing_is_sure_yet(looks: int, told: str) -> None:
    state = ObjectiveState(stable=Counts(bad=10, total=100), candidate=Counts(bad=5, total=100), looks=after(looks))
    found = abtest.numbers(state, abtest.effect(state, TOXIC, 0.05), TOXIC)
    assert found.endswith(told or "; decided beyond 0")
    by_users = AbTest(metric="errors")
    assert "of equal size" not in abtest.numbers(state, abtest.effect(state, by_users, 0.05), by_users)


@pytest.mark.parametrize("direction", ["lower", "higher"])
def test_an_interval_without_users_holds_both_that_of_events_and_that_of_looks(direction: str) -> None:
    looks = after(300)
    bad_stable, stable, bad, candidate = looks.sums
    test = TOXIC.model_copy(update={"direction": direction})
    state = ObjectiveState(stable=Counts(bad=bad_stable, total=stable), candidate=Counts(bad=bad, total=candidate),
                           looks=looks)
    found, of_events = abtest.effect(state, test, 0.05), abtest.effect(
        state, AbTest.model_validate({"metric": "errors", "direction": direction}), 0.05)
    of_looks = looks.interval(0.05) if direction == "higher" else looks.interval(0.05).opposite
    assert found.low == min(of_events.low, of_looks.low)
    assert found.high == max(of_events.high, of_looks.high)
    assert abtest.verdict(found, test) == ("candidate" if direction == "lower" else "stable")
