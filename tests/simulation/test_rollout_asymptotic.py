"""The asymptotic confidence sequence of what names no user: where it covers at all times, and where it cannot."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.calibration.results import bound
from benchmarks.calibration.rules import increases
from benchmarks.calibration.scenarios import LOOKS, TRAFFIC, Floats, Hypothesis, Traffic
from benchmarks.calibration.traffic import Bools, counters
from services.rollout import abtest
from services.rollout.analysis import Counts
from services.rollout.analysis.asymptotic import difference_by_look
from services.rollout.analysis.proportions import difference_interval
from services.rollout.state import ObjectiveState
from tests.support.rollouts import TOXIC

ALPHA = 0.05
KINDS = {traffic.name: traffic for traffic in TRAFFIC}
SESSIONS = KINDS["sessions"]
# Whose requests are all bad, if one is.
WHOLE_SESSIONS = replace(SESSIONS, severity=1.0)


def looks_of(traffic: Traffic, rate: float, runs: int, weight: float, seed: int = 7) -> Floats:
    """Bad and all events of stable and of the candidate, who are as bad, in each look; ``[runs, LOOKS, 4]``."""
    split = replace(traffic, weights=np.full(LOOKS, weight))
    seen = increases(counters(split, Hypothesis("", "", rate, rate), runs, np.random.default_rng(seed)))
    return np.concatenate([seen.stable, seen.candidate], axis=-1)


def missed(looks: Floats) -> Bools:
    """Which of the rollouts ever see an interval that leaves out 0."""
    products = np.cumsum(looks[..., :, None] * looks[..., None, :], axis=1)
    middle, half = difference_by_look(np.cumsum(looks.any(axis=-1), axis=1), np.cumsum(looks, axis=1), products, ALPHA)
    found: Bools = np.asarray((np.abs(middle) > half).any(axis=1))
    return found


@pytest.mark.parametrize("weight", [0.1, 0.5])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("traffic", [
    KINDS["iid"], replace(KINDS["diurnal"], base=np.ones(LOOKS)), KINDS["quiet"], KINDS["gaps"], SESSIONS,
    WHOLE_SESSIONS, replace(SESSIONS, volume=np.full(LOOKS, 20.0)),
], ids=["independent", "diurnal", "few requests", "outage", "sessions", "whole sessions", "few sessions"])
def test_it_covers_at_all_times(traffic: Traffic, rate: float, weight: float) -> None:
    assert missed(looks_of(traffic, rate, 300, weight)).mean() <= bound(ALPHA, 300)


def test_it_does_not_where_the_same_users_come_again() -> None:
    assert missed(looks_of(KINDS["clustered"], 0.1, 100, 0.5)).mean() > 2 * bound(ALPHA, 100)


def test_it_is_half_as_wide_as_that_of_independent_events_where_they_are() -> None:
    last = states_of(looks_of(KINDS["iid"], 0.1, 1, 0.5)[0])[-1]
    by_event, by_look = difference_interval(last.stable, last.candidate, ALPHA), last.looks.interval(ALPHA)
    assert (by_look.high - by_look.low) / (by_event.high - by_event.low) == pytest.approx(0.55, abs=0.1)


def states_of(looks: Floats) -> list[ObjectiveState]:
    """What a test without users knows after each look."""
    found, states = ObjectiveState(), []
    for bad_stable, all_stable, bad, total in looks.astype(int).tolist():
        stable, candidate = Counts(bad=bad_stable, total=all_stable), Counts(bad=bad, total=total)
        found = found.model_copy(update={
            "stable": found.stable + stable, "candidate": found.candidate + candidate,
            "looks": found.looks.updated(stable, candidate),
        })
        states.append(found)
    return states


def test_an_ab_test_without_users_holds_in_sessions_where_one_by_events_does_not() -> None:
    runs = 200
    states = [states_of(one)[39::10] for one in looks_of(WHOLE_SESSIONS, 0.1, runs, 0.5)]
    by_events = [any(difference_interval(at.stable, at.candidate, ALPHA).low > 0
                     or difference_interval(at.stable, at.candidate, ALPHA).high < 0 for at in one) for one in states]
    answered = [any(abtest.verdict(abtest.effect(at, TOXIC, ALPHA), TOXIC) != "undecided" for at in one)
                for one in states]
    assert np.mean(answered) <= bound(ALPHA, runs)
    assert np.mean(by_events) > bound(ALPHA, runs)
