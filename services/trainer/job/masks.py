"""Which tokens of a row the loss counts, whatever the objective: to show them, and to refuse rows that never end.

A model whose answers are cut before their end token in training never learns to stop, and every metric but the length
of its answers looks fine. So this is found before the first step. Pure; nothing here imports torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidInputError
from shared.prompts import IGNORED_LABEL, Tokenizer, end_token_id

# Where a record has what is trained, by objective: sft, dpo (the better answer first) and kto.
_PARTS = {"labels": "answer", "chosen_ids": "chosen", "rejected_ids": "rejected", "completion_ids": "answer"}
MIN_ENDS = 0.5
"""Of fewer training rows than this share being trained with their end, a model learns that answers mostly go on."""


@dataclass(frozen=True)
class Mask:
    """One sequence of a row.

    Attributes:
        name: which of the row's answers it is.
        ids: its tokens, the prompt's first.
        trained: for each of them, whether the loss counts it.
    """

    name: str
    ids: list[int]
    trained: list[bool]


@dataclass(frozen=True)
class Ends:
    """How many of `rows` train the end token of their answer."""

    rows: int
    trained: int


def masks_of(record: Mapping[str, Any]) -> list[Mask]:
    """The sequences of a record that `services.trainer.job.rows` made, as the loss sees them."""
    if "labels" in record:
        return [Mask("answer", record["input_ids"], [label != IGNORED_LABEL for label in record["labels"]])]
    prompt = record["prompt_ids"]
    return [
        Mask(name, prompt + record[key], [False] * len(prompt) + [True] * len(record[key]))
        for key, name in _PARTS.items() if key in record
    ]


def count_ends(records: Iterable[Mapping[str, Any]], tokenizer: Tokenizer) -> Ends:
    """Whose last trained token is the end token; of two answers, that of the better one."""
    end = end_token_id(tokenizer)
    tails = [next(record[key] for key in _PARTS if key in record)[-1] for record in records]
    return Ends(len(tails), tails.count(end))


def check_ends(ends: Ends, max_length: int) -> None:
    """Refuse to train on rows that would teach a model not to stop.

    Raises:
        InvalidInputError: too few rows train their end token.
    """
    if ends.trained < MIN_ENDS * ends.rows:
        raise InvalidInputError(
            f"only {ends.trained} of {ends.rows} training rows have their answer's end within {max_length} tokens: the "
            "model would not learn to stop. Raise training.maxLength, or shorten the rows; `tuneloop train preview` "
            "shows where they are cut"
        )
