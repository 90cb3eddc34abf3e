"""A dataset version as token rows, with the loss on the answer alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset

from shared.errors import InvalidInputError
from shared.prompts import Example, Tokenizer, encode


@dataclass(frozen=True)
class Splits:
    """What is trained on and what is validated on.

    Attributes:
        skipped: rows of both whose prompt alone fills `max_length`, so that no answer is left to learn.
    """

    train: Dataset
    validation: Dataset
    skipped: int


def load_splits(folder: Path, tokenizer: Tokenizer, *, max_length: int) -> Splits:
    """The train and validation rows of a dataset version's folder.

    Raises:
        InvalidInputError: no row has an answer within `max_length` tokens.
    """
    train = _examples(folder / "train.parquet", tokenizer, max_length)
    validation = _examples(folder / "validation.parquet", tokenizer, max_length)
    usable, checked = ([e for e in rows if e.trained_tokens > 0] for rows in (train, validation))
    if not usable or not checked:
        raise InvalidInputError(
            f"no {'train' if not usable else 'validation'} row has its answer within {max_length} tokens; "
            "raise training.maxLength, or shorten the prompts"
        )
    skipped = len(train) + len(validation) - len(usable) - len(checked)
    return Splits(_dataset(usable), _dataset(checked), skipped)


def _examples(file: Path, tokenizer: Tokenizer, max_length: int) -> list[Example]:
    rows = pq.read_table(file, columns=["messages"]).column("messages").to_pylist()
    return [encode(tokenizer, messages, max_length=max_length) for messages in rows]


def _dataset(examples: Sequence[Example]) -> Dataset:
    return Dataset.from_dict({
        "input_ids": [example.input_ids for example in examples],
        "labels": [example.labels for example in examples],
    })
