"""Length profiles: exact at the ends, close in between, small always."""

from hypothesis import given
from hypothesis import strategies as st

from services.data_ingest.lengths import LengthCounter


@given(st.lists(st.integers(min_value=0, max_value=10_000_000), min_size=1))
def test_quantiles_are_close_upper_bounds(lengths: list[int]) -> None:
    counter = LengthCounter()
    for length in lengths:
        counter.add(length)
    profile = counter.profile()
    assert profile is not None
    assert (profile.count, profile.min, profile.max) == (len(lengths), min(lengths), max(lengths))
    ordered = sorted(lengths)
    for share, found in ((0.5, profile.p50), (0.9, profile.p90), (0.99, profile.p99)):
        exact = ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
        assert exact <= found <= max(exact * 1.1, exact + 1)


def test_nothing_counted() -> None:
    assert LengthCounter().profile() is None
