"""An epoch of several tasks: nothing is left out, shares are as the temperature says, and a seed decides the rest."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.job.mixture import draws, epoch_rows


def test_shares_against_a_case_worked_out_by_hand() -> None:
    """Roots of 400 and 4 are 20 and 2: shares of 10/11 and 1/11, so 400 rows of the one want 40 of the other."""
    sizes = {"large": 400, "small": 4}
    assert draws(sizes, 2.0) == {"large": 400, "small": 40}
    assert draws(sizes, 1.0) == sizes
    assert draws(sizes, 1e9) == {"large": 400, "small": 400}


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.floats(1, 20), st.integers(0, 9))
def test_every_row_is_there_and_none_much_more_often_than_its_neighbours(
    tasks: list[str], temperature: float, seed: int
) -> None:
    chosen = epoch_rows(tasks, temperature, seed)
    assert chosen == epoch_rows(tasks, temperature, seed)
    seen = Counter(chosen)
    assert set(seen) == set(range(len(tasks)))
    for task, size in Counter(tasks).items():
        counts = {seen[index] for index, name in enumerate(tasks) if name == task}
        assert max(counts) - min(counts) <= 1
        assert sum(seen[index] for index, name in enumerate(tasks) if name == task) >= size
    largest = max(Counter(tasks).values())
    assert max(Counter(tasks[index] for index in chosen).values()) == largest


def test_another_seed_repeats_other_rows_and_rows_of_another_task_change_nothing() -> None:
    tasks = ["a"] * 90 + ["b"] * 40
    one, two = epoch_rows(tasks, 2.0, 1), epoch_rows(tasks, 2.0, 2)
    assert len(one) == len(two)
    assert one != two
    assert [row for row in one if row >= 90] == [row for row in epoch_rows([*tasks, "c"], 2.0, 1) if 90 <= row < 130]
