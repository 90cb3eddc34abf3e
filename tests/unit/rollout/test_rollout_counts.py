"""From raw counter values to increments: resets, new and vanished series, several gateways."""

import pytest

from services.rollout.analysis import Counts
from services.rollout.counts import InconsistentCountersError, Reading, increments

Values = dict[str, dict[str, float]]


def errors(ok: float, error: float | None = 0.0, *, target: str = "gw/1", version: str = "m@2") -> list[Reading]:
    readings = [Reading(target=target, version=version, cell="ok", value=ok, bad=0, total=1)]
    if error is not None:
        readings.append(Reading(target=target, version=version, cell="error", value=error, bad=1, total=1))
    return readings


def after(*scrapes: list[Reading]) -> Counts:
    """The counts of the last of some scrapes."""
    values: Values = {}
    counts: dict[str, Counts] = {}
    for scrape in scrapes:
        values, counts = increments(values, scrape)
    return counts["m@2"]


def test_the_first_sight_is_only_remembered() -> None:
    assert after(errors(900, 12)) == Counts(bad=0, total=0)


def test_growth_is_exact() -> None:
    assert after(errors(900, 12), errors(903, 13)) == Counts(bad=1, total=4)


def test_a_counter_that_began_anew_counts_from_zero() -> None:
    assert after(errors(900, 12), errors(5, 1)) == Counts(bad=1, total=6)


def test_the_first_error_of_a_series_that_appears_with_it_is_counted() -> None:
    assert after(errors(900, None), errors(900, 1)) == Counts(bad=1, total=1)


def test_a_gateway_that_appears_is_only_remembered_and_then_counted() -> None:
    second = errors(5000, 70, target="gw/2")
    assert after(errors(1), errors(2) + second) == Counts(bad=0, total=1)
    more = errors(5010, 75, target="gw/2")
    assert after(errors(1), errors(2) + second, errors(2) + more) == Counts(bad=5, total=15)


def test_a_gateway_that_was_away_for_a_scrape_is_subtracted_from_what_it_had() -> None:
    one, two = errors(10), errors(20, target="gw/2")
    assert after(one + two, errors(11), errors(12) + errors(26, target="gw/2")) == Counts(bad=0, total=7)


def test_several_gateways_are_summed() -> None:
    before = errors(10) + errors(20, target="gw/2")
    now = errors(11, 1) + errors(22, 2, target="gw/2")
    assert after(before, now) == Counts(bad=3, total=6)


def test_versions_are_kept_apart() -> None:
    values, _ = increments({}, errors(1) + errors(1, version="base"))
    _, counts = increments(values, errors(3) + errors(1, 4, version="base"))
    assert counts == {"m@2": Counts(bad=0, total=2), "base": Counts(bad=4, total=4)}


def test_more_fast_requests_than_requests_are_refused() -> None:
    def histogram(whole: float, fast: float) -> list[Reading]:
        return [
            Reading(target="gw/1", version="m@2", cell="le=inf", value=whole, bad=1, total=1),
            Reading(target="gw/1", version="m@2", cell="le=0.5", value=fast, bad=-1, total=0),
        ]

    assert after(histogram(10, 8), histogram(20, 15)) == Counts(bad=3, total=10)
    with pytest.raises(InconsistentCountersError, match=r"m@2 grew by -2 bad events and 1 events"):
        after(histogram(10, 8), histogram(11, 11))
