"""What every contender is given, and what is kept of its run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.training.rows import KINDS

BATCH = 16
MAX_LENGTH = 512


@dataclass(frozen=True)
class Outcome:
    """What a contender took and reached.

    Attributes:
        cpu_seconds: of the training loop, all threads of the process.
        before_seconds: of the same kind, from the process's start to the loop: imports, tokens, the model.
        tokens: real tokens of all rows; padding does not count.
        loss: mean nats per trained token of the held-out rows, after the training.
        megabytes: the most memory that the process held.
    """

    name: str
    cpu_seconds: float
    before_seconds: float
    tokens: int
    steps: int
    loss: float
    megabytes: int


@dataclass(frozen=True)
class Data:
    """Rows as tokens.

    Attributes:
        chats: the trained rows as they were before, in the same order.
        trained: `input_ids` and `labels` of each row.
        held_out: of the same kind.
    """

    chats: list[dict[str, Any]]
    trained: list[dict[str, list[int]]]
    held_out: list[dict[str, list[int]]]

    @property
    def tokens(self) -> int:
        """Of all trained rows."""
        return sum(len(record["input_ids"]) for record in self.trained)


def data_of(tokenizer: Any, kind: str, count: int, seed: int) -> Data:
    """`count` rows to train on, and a quarter as many to hold out."""
    from shared.prompts import encode

    chats = KINDS[kind](count + count // 4, seed)
    encoded = [encode(tokenizer, chat["messages"], max_length=MAX_LENGTH) for chat in chats]
    records = [{"input_ids": row.input_ids, "labels": row.labels} for row in encoded]
    return Data(chats=chats[:count], trained=records[:count], held_out=records[count:])


def base_model(folder: Path) -> Any:
    """In float32, without a cache."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config.use_cache = False
    return model


def held_out_loss(model: Any, records: Sequence[dict[str, list[int]]]) -> float:
    """Mean nats per trained token, each row alone."""
    import torch

    model.eval()
    nats, trained = 0.0, 0
    for record in records:
        ids, labels = torch.tensor([record["input_ids"]]), torch.tensor(record["labels"])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        nats += float(torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum"))
        trained += int((labels[1:] != -100).sum())
    return nats / trained
