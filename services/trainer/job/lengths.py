"""How long the rows of a dataset version are as tokens, before any is cut. Nothing here imports torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from services.trainer.job.masks import masks_of
from services.trainer.job.rows import Record, read_rows, reader, require_columns
from shared.documents import document_ids
from shared.prompts import Tokenizer
from shared.recipe import RL, TrainingRecipe
from shared.recipe_auto import AutoField

WHOLE = 1_000_000
"""Tokens; as `max_length` this cuts nothing."""

# What of a recipe follows from lengths, where it is left open.
_ASKED_BY: frozenset[AutoField] = frozenset({"maxLength", "lora.rank"})
# Texts that are tokenized at once.
_TEXTS = 256


@dataclass(frozen=True)
class Lengths:
    """Tokens of rows.

    Attributes:
        rows: of each, its prompt with the longest of its answers, or with the longest that may be drawn.
        learned: of all of them together, what is learned from.
    """

    rows: list[int]
    learned: int

    @property
    def learned_in_each(self) -> float:
        """The mean."""
        return self.learned / max(1, len(self.rows))

    @property
    def longest(self) -> int:
        return max(self.rows, default=0)

    def beyond(self, length: int) -> int:
        """How many rows are longer than that."""
        return sum(row > length for row in self.rows)


def lengths_in(file: Path, tokenizer: Tokenizer, recipe: TrainingRecipe, *, most: int | None = None) -> Lengths | None:
    """Of a dataset version's split; None where the recipe leaves nothing open that follows from them.

    Args:
        most: of its rows are looked at; None for all.

    Raises:
        InvalidInputError: it was prepared for another objective.
    """
    if not _ASKED_BY & set(recipe.auto):
        return None
    if recipe.objective == "pretrain":
        batches = pq.ParquetFile(require_columns(file, recipe.objective)).iter_batches(_TEXTS, columns=["text"])
        texts = (document_ids(tokenizer, batch.column("text").to_pylist()) for batch in batches)
        rows = [len(ids) for ids in islice(chain.from_iterable(texts), most)]
        return Lengths(rows, sum(rows))
    return _lengths_of(read_rows(file, recipe.objective)[:most], tokenizer, recipe)


def _lengths_of(rows: Iterable[Record], tokenizer: Tokenizer, recipe: TrainingRecipe) -> Lengths:
    read = reader(recipe.model_copy(update={"max_length": WHOLE}), tokenizer)
    found, learned = list[int](), 0
    for record in filter(None, map(read, rows)):
        masks = masks_of(record)
        found.append(_drawn(record, recipe) if recipe.objective in RL else max(len(mask.ids) for mask in masks))
        learned += sum(masks[0].trained)
    return Lengths(found, learned)


def _drawn(record: Mapping[str, Any], recipe: TrainingRecipe) -> int:
    return len(record["prompt_ids"]) + recipe.rl.max_new_tokens
