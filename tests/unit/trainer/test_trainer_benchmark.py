"""What the training benchmark decides: whether others train on the same rows, and which bars are missed."""

from pathlib import Path

import numpy as np

from benchmarks.training.__main__ import missed
from benchmarks.training.axolotl_loop import sequences_of
from benchmarks.training.llama_factory import CONTENDERS, arguments
from benchmarks.training.outcome import Outcome
from benchmarks.training.peer_loop import rows_of, sequences_per_step


def test_packed_sequences_hold_the_rows_that_padded_ones_do() -> None:
    padded = [
        {"input_ids": [5, 6], "attention_mask": [1, 1], "labels": [-100, 6]},
        {"input_ids": [7, 8, 9], "attention_mask": [1, 1, 1], "labels": [-100, -100, 9]},
    ]
    packed = [{
        "input_ids": [7, 8, 9, 5, 6, 0], "attention_mask": [1, 1, 1, 2, 2, 0],
        "labels": [-100, -100, 9, -100, 6, -100],
    }]
    assert rows_of(padded) == rows_of(packed) == [((5, 6), (-100, 6)), ((7, 8, 9), (-100, -100, 9))]


def test_positions_tell_the_rows_of_packed_sequences_and_the_padding_after_them() -> None:
    batch = {
        "input_ids": np.array([[5, 6, 7, 8, 2, 2], [4, 3, 2, 2, 2, 2]]),
        "labels": np.array([[-100, 6, -100, 8, -100, -100], [-100, 3, -100, -100, -100, -100]]),
        "position_ids": np.array([[0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 2, 3]]),
    }
    assert [sequence["attention_mask"] for sequence in sequences_of(batch)] == [[1, 1, 2, 2, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert rows_of(sequences_of(batch)) == [((4, 3), (-100, 3)), ((5, 6), (-100, 6)), ((7, 8), (-100, 8))]


def test_a_mask_tells_the_padding_where_rows_do_not_share_sequences() -> None:
    batch = {"input_ids": np.array([[5, 6, 2]]), "labels": np.array([[-100, 6, -100]]),
             "attention_mask": np.array([[1, 1, 0]])}
    assert rows_of(sequences_of(batch)) == [((5, 6), (-100, 6))]


def test_a_label_that_differs_is_another_row() -> None:
    row = {"input_ids": [5, 6], "attention_mask": [1, 1], "labels": [-100, 6]}
    assert rows_of([row]) != rows_of([row | {"labels": [5, 6]}])


def test_a_step_of_packed_sequences_has_about_as_many_rows() -> None:
    assert sequences_per_step(16, 64, 64) == 16
    assert sequences_per_step(16, 64, 20) == 5
    assert sequences_per_step(16, 64, 1) == 1


def test_the_longest_row_is_not_cut_and_packed_lengths_are_multiples_of_8(tmp_path: Path) -> None:
    for longest in (254, 255, 256):
        given = arguments(CONTENDERS["LLaMA-Factory neat_packing"], tmp_path, longest)
        assert given["neat_packing"]
        assert given["cutoff_len"] % 8 == 0
        assert longest < given["cutoff_len"] <= longest + 8


def _outcome(name: str, seconds: float, loss: float = 1.0) -> list[Outcome]:
    return [Outcome(name=name, cpu_seconds=seconds, before_seconds=1, tokens=1000, steps=4, loss=loss, megabytes=500)]


def test_the_bar_is_the_fastest_of_the_others_whoever_it_is() -> None:
    found = {
        "tuneloop": _outcome("tuneloop", 10), "TRL, no checkpointing": _outcome("TRL, no checkpointing", 20),
        "LLaMA-Factory neat_packing": _outcome("LLaMA-Factory neat_packing", 8),
    }
    assert missed(found) == ["0.80 times LLaMA-Factory neat_packing, not 1"]
    del found["LLaMA-Factory neat_packing"]
    assert missed(found) == []


def test_speed_at_a_worse_loss_is_no_speed() -> None:
    found = {
        "tuneloop": _outcome("tuneloop", 10, loss=1.2), "TRL, no checkpointing": _outcome("TRL, no checkpointing", 20),
    }
    assert missed(found) == ["a loss of 1.200 where TRL's padded batches reach 1.000"]
