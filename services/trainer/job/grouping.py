"""Rows of like length in one batch, where batches must be padded."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Few enough that batches stay random, enough that their rows are of like length (as transformers groups them).
_BATCHES_IN_A_POOL = 50


def grouped_order(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[int]:
    """The rows of an epoch, so that every `batch` after each other are of like length. Pure.

    Rows are shuffled, sorted by length within pools of 50 batches, and the batches shuffled again. A batch that is not
    full stays last, as it is what the last one lacks.
    """
    draw = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order of rows, no secret
    rows = list(range(len(lengths)))
    draw.shuffle(rows)
    pool = _BATCHES_IN_A_POOL * batch
    ordered = [
        row for start in range(0, len(rows), pool)
        for row in sorted(rows[start : start + pool], key=lambda row: -lengths[row])
    ]
    batches = [ordered[start : start + batch] for start in range(0, len(ordered), batch)]
    whole = [rows for rows in batches if len(rows) == batch]
    draw.shuffle(whole)
    return [row for rows in [*whole, *batches[len(whole) :]] for row in rows]


def length_of(row: Mapping[str, Any]) -> int:
    """The tokens of a row of any objective: of its prompt and all of its answers."""
    return sum(len(value) for name, value in row.items() if name.endswith("_ids"))


class GroupedRows:
    """`grouped_order` of the epoch that is set. It draws its own random numbers: resuming is exact."""

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """What the trainer calls before each epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(grouped_order(self._lengths, self._batch, self._seed, self._epoch))

    def __len__(self) -> int:
        return len(self._lengths)
