"""Batches with little padding or none: several rows in a sequence, of which each sees itself alone.

A batch keeps its rows, and with them the step its gradient: what changes is how they are laid out. Positions start
again at each row, from which transformers derives a mask without attention across rows, and flash attention its limits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from services.trainer.job.bins import Bins, cheapest
from shared.prompts import IGNORED_LABEL
from shared.recipe import Packing

ROWS_TOKENS = "real_tokens"
"""Key of a packed batch: how many of its tokens are of rows. Not the model's, see `Supervised`."""

# Matrix products of a block take about 24 * width**2 operations a token, attention to n tokens 4 * n * width (Kaplan et
# al., arXiv 2001.08361, table 1), and its kernels reach about a third of the speed of a matrix product.
_ATTENTION_SHARE = 3 * 4 / 24
_MOST_DIFFERENT = {torch.float32: 1e-3}
_MOST_DIFFERENT_ROUNDED = 5e-2
# Rows of different lengths, so that no two are at the same place; the last one is in a sequence of its own.
_PROBES = (11, 7, 13)
_PROBED_BINS: Bins = [[0, 1], [2]]


def end_to_end(lengths: Sequence[int]) -> Bins:
    """All rows in one sequence."""
    return [list(range(len(lengths)))]


def binned(width: int) -> Callable[[Sequence[int]], Bins]:
    """For a model of this width: the sequences that cost it least."""
    return lambda lengths: cheapest(lengths, _ATTENTION_SHARE / width)


class PackedRows:
    """Collates rows (`input_ids`, `labels`) into packed sequences.

    Returns of a call:
        ``input_ids``, ``labels`` and ``position_ids``, each of shape (sequences, longest sequence). Positions start at
        0 at each row, and at the padding behind the last one. `ROWS_TOKENS`, of shape (1,). With `limits` also what
        flash attention wants to know: ``cu_seq_lens_q`` and ``_k``, ``max_length_q`` and ``_k``.
    """

    def __init__(self, plan: Callable[[Sequence[int]], Bins], *, pad: int, limits: bool = False) -> None:
        self._plan, self._pad, self._limits = plan, pad, limits

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        bins = self._plan(lengths)
        longest = max(sum(lengths[row] for row in numbers) for numbers in bins)
        ids, labels, positions = [], [], []
        for numbers in bins:
            rest = longest - sum(lengths[row] for row in numbers)
            ids.append([token for row in numbers for token in rows[row]["input_ids"]] + [self._pad] * rest)
            # The first token of a row is predicted by none: the one before it is another row's.
            labels.append([label for row in numbers for label in (IGNORED_LABEL, *rows[row]["labels"][1:])]
                          + [IGNORED_LABEL] * rest)
            positions.append([place for row in numbers for place in range(lengths[row])] + list(range(rest)))
        batch: dict[str, Any] = {
            "input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "position_ids": torch.tensor(positions),
            ROWS_TOKENS: torch.tensor([sum(lengths)]),
        }
        return batch | (_limits([lengths[row] for row in bins[0]]) if self._limits else {})


def _limits(lengths: Sequence[int]) -> dict[str, Any]:
    """Where rows begin and end in the one sequence that flash attention gets."""
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": max(lengths), "max_length_k": max(lengths)}


def collator_for(packing: Packing, *, width: int, pad: int, flash: bool) -> PackedRows:
    """What packs batches so, ``bfd`` or ``padding_free``, for a model of this width."""
    plan = end_to_end if packing == "padding_free" else binned(width)
    return PackedRows(plan, pad=pad, limits=flash and packing == "padding_free")


@torch.no_grad()
def crosstalk(model: Any, packing: Packing, *, flash: bool) -> float:
    """How much rows of a sequence change each other: the largest difference between the logits of a row in a packed
    batch and alone, as a share of the largest logit. 0 but for rounding where the model keeps rows apart.
    """
    vocabulary = model.config.get_text_config().vocab_size
    rows = [torch.arange(7 * length, 20 * length, 13) % vocabulary for length in _PROBES]
    plan = end_to_end if packing == "padding_free" else lambda _: _PROBED_BINS
    collate = PackedRows(plan, pad=0, limits=flash and packing == "padding_free")
    batch = collate([{"input_ids": row.tolist(), "labels": row.tolist()} for row in rows])
    inputs = {key: value.to(model.device) if isinstance(value, torch.Tensor) else value
              for key, value in batch.items() if key not in ("labels", ROWS_TOKENS)}
    was_training = model.training
    model.eval()
    try:
        packed = model(**inputs, use_cache=False).logits
        alone = [model(input_ids=row[None].to(model.device), use_cache=False).logits[0] for row in rows]
    finally:
        model.train(was_training)
    together = torch.cat(alone)
    apart = torch.cat([
        packed[number, : sum(_PROBES[row] for row in numbers)] for number, numbers in enumerate(plan(_PROBES))
    ])
    return float((apart - together).abs().max() / together.abs().max())


def tolerated(dtype: torch.dtype) -> float:
    """The `crosstalk` that rounding alone can make."""
    return _MOST_DIFFERENT.get(dtype, _MOST_DIFFERENT_ROUNDED)
