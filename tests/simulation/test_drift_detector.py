"""What an alarm promises, simulated: without drift the average run is as long as was asked for; with it, it is short.

Everything is seeded. The references are drawn anew for each run, because each pipeline has one of its own and every
window is compared with the same.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from services.drift.detector import detect, e_value, threshold
from services.drift.statistics import compare

SHARES = np.full(10, 0.1)
LABELS = [str(number) for number in range(10)]
WINDOW = 200
PValue = Callable[[list[int], list[int]], float]


def ours(reference: list[int], window: list[int]) -> float:
    found = compare(LABELS, reference, window)
    assert found is not None
    return found.p_value


def naive(reference: list[int], window: list[int]) -> float:
    """Scaled PSI as of a fresh reference: right for one look, wrong for looking again and again at the same one."""
    found = compare(LABELS, reference, window)
    assert found is not None
    n, m = found.window, found.reference
    return float(stats.chi2.sf(found.statistic / (1 / n + 1 / m), len(LABELS) - 1))


def run_length(
    rng: np.random.Generator, p_value: PValue, *, average_run: int, features: int, rows: int, moved: float, most: int
) -> int:
    """Windows until the first alarm of any feature, or `most`."""
    live = SHARES.copy()
    live[0] += moved
    live[1:] -= moved / 9
    references = [rng.multinomial(rows, SHARES).tolist() for _ in range(features)]
    evidence = [0.0] * features
    for count in range(1, most + 1):
        for place, reference in enumerate(references):
            evidence[place] = detect(evidence[place], p_value(reference, rng.multinomial(WINDOW, live).tolist()))
        if max(evidence) >= threshold(average_run, features):
            return count
    return most


@pytest.mark.parametrize("rows", [150, 1000, 5000])
def test_without_drift_the_average_run_is_at_least_what_was_asked_for(rows: int) -> None:
    rng = np.random.default_rng(rows)
    runs = [
        run_length(rng, ours, average_run=30, features=2, rows=rows, moved=0, most=150) for _ in range(40)
    ]
    assert np.mean(runs) >= 30


@pytest.mark.parametrize(("p_value", "keeps"), [(ours, True), (naive, False)], ids=["ours", "naive"])
def test_an_early_alarm_is_as_rare_as_promised_and_forgetting_the_error_of_the_reference_breaks_that(
    p_value: PValue, keeps: bool
) -> None:
    """A detector reaches A within k windows with a chance of at most k / A (Ville); here 50 / 1000."""
    rng, runs = np.random.default_rng(7), 120
    early = np.mean([
        run_length(rng, p_value, average_run=1000, features=1, rows=150, moved=0, most=50) < 50 for _ in range(runs)
    ])
    bar = 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert bool(early <= bar) is keeps, f"{early:.3f} of the references raised an alarm early; at most {bar:.3f} may"


def test_drift_is_found_soon() -> None:
    """8 features, one false alarm in 1000 windows. The delay is in windows; a tenth of the traffic moves."""
    rng = np.random.default_rng(4)
    delays = [run_length(rng, ours, average_run=1000, features=8, rows=1000, moved=0.1, most=200) for _ in range(25)]
    assert np.median(delays) <= 6
    assert max(delays) < 200


def test_the_mean_of_an_e_value_is_at_most_one_for_uniform_p_values() -> None:
    grid = (np.arange(200_000) + 0.5) / 200_000
    assert np.mean([e_value(p) for p in grid]) <= 1.0
    assert e_value(0.0) == e_value(1e-300) == pytest.approx(500)


def test_evidence_stays_a_number() -> None:
    evidence = 0.0
    for _ in range(1000):
        evidence = detect(evidence, 0.0)
    assert evidence == 1e12
    assert threshold(1000, 0) == 1000
