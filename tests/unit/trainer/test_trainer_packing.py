"""Which rows of a batch share a sequence, which batches are grouped instead, and what `packing: auto` is."""

import random
from collections import Counter
from typing import Any

import pytest

from services.trainer.job.bins import balanced, best_fit_decreasing, cheapest, width
from services.trainer.job.grouping import grouped_order, length_of
from services.trainer.job.layout import layout_for
from shared.recipe import TrainingRecipe


def some_lengths(seed: int, count: int) -> list[int]:
    draw = random.Random(seed)
    return [min(512, max(2, int(draw.lognormvariate(4, 0.8)))) for _ in range(count)]


def test_each_row_goes_where_the_least_room_is_left_that_is_enough() -> None:
    # 6 and 5 open two sequences of 10; the 4 fills the first, the 3 goes to the second, the last 3 opens a third.
    assert best_fit_decreasing([3, 6, 4, 5, 3], 10) == [[1, 2], [3, 0], [4]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_balanced_sequences_hold_every_row_once_and_are_about_as_short_as_can_be(seed: int, count: int) -> None:
    lengths = some_lengths(seed, 16)
    bins = balanced(lengths, count)
    assert Counter(row for rows in bins for row in rows) == Counter(range(16))
    assert len(bins) <= count
    # No sequences can be shorter than these. MULTIFIT is at worst 13/11 of the best (Yue, 1990).
    assert 1 <= width(lengths, bins) / max(*lengths, sum(lengths) / count) <= 13 / 11


def test_where_attention_is_free_there_is_hardly_any_padding_and_where_it_is_dear_sequences_are_short() -> None:
    lengths = some_lengths(1, 16)
    free, dear = cheapest(lengths, 0), cheapest(lengths, 10)
    assert len(free) * width(lengths, free) == sum(lengths)
    assert width(lengths, dear) <= 1.05 * max(lengths)
    assert len(dear) > len(free)
    assert cheapest([7], 1) == [[0]]
    assert cheapest([5, 5, 5, 5], 0.01) == [[0], [1], [2], [3]]


def test_the_cheapest_is_cheaper_than_padding_and_than_one_sequence() -> None:
    def cost(lengths: list[int], bins: list[list[int]]) -> float:
        across = width(lengths, bins)
        return len(bins) * across * (1 + across / 1000)

    for seed in range(5):
        lengths = some_lengths(seed, 32)
        found = cost(lengths, cheapest(lengths, 1 / 1000))
        assert found < cost(lengths, [[row] for row in range(32)]) / 1.5
        assert found <= cost(lengths, [list(range(32))])


def padded(lengths: list[int], order: list[int], batch: int) -> int:
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    return sum(max(lengths[row] for row in rows) * len(rows) for rows in batches)


def test_grouped_batches_have_rows_of_like_length_and_every_row_once() -> None:
    lengths = some_lengths(2, 203)
    order = grouped_order(lengths, 8, seed=1, epoch=0)
    assert sorted(order) == list(range(203))
    assert padded(lengths, order, 8) < 1.15 * sum(lengths) < padded(lengths, list(range(203)), 8) / 1.3
    assert order == grouped_order(lengths, 8, seed=1, epoch=0)
    assert order != grouped_order(lengths, 8, seed=1, epoch=1)
    first = [lengths[order[start]] for start in range(0, 200, 8)]
    assert first != sorted(first, reverse=True), "batches are not in order of length"


def test_a_rows_length_is_that_of_all_its_tokens() -> None:
    assert length_of({"input_ids": [1, 2, 3], "labels": [1, 2, 3]}) == 3
    assert length_of({"prompt_ids": [1], "chosen_ids": [1, 2], "rejected_ids": [3]}) == 4


@pytest.mark.parametrize(("recipe", "attention", "packing"), [
    ({}, "sdpa", "bfd"), ({}, "eager", "bfd"), ({}, "flash_attention_2", "padding_free"),
    ({}, "something_new", "grouped"), ({"method": "prefix"}, "sdpa", "grouped"),
    ({"objective": "dpo"}, "flash_attention_2", "grouped"), ({"packing": "off"}, "sdpa", "off"),
    ({"packing": "padding_free"}, "sdpa", "padding_free"),
])
def test_auto_takes_what_the_model_and_the_rows_allow(recipe: dict[str, Any], attention: str, packing: str) -> None:
    layout = layout_for(TrainingRecipe.model_validate(recipe), attention)
    assert layout.packing == packing
    assert layout.why
