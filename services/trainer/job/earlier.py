"""Rows of an earlier task: which may be used again, and which are mixed among the new ones. Nothing held out is."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeAlias, TypeVar

import pyarrow.parquet as pq

from services.trainer.job.rows import read_rows
from shared.errors import InvalidInputError
from shared.prompts import Example, Tokenizer, encode
from shared.recipe import TrainingRecipe
from shared.telemetry import get_logger

log = get_logger(__name__)

Record: TypeAlias = dict[str, Any]
T = TypeVar("T")
_HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Replayed:
    """Rows of the earlier task that are trained on again.

    Attributes:
        rows: as `services.trainer.job.rows` reads them.
        ids: of the rows, in their order.
        share: of the mix, which is less than was asked for where there are too few.
    """

    rows: list[Record]
    ids: list[str]
    share: float


def replay(dataset: Path, earlier: Path, recipe: TrainingRecipe, share: float) -> Replayed:
    """Draw the earlier rows for a recipe's mix, by its seed.

    Args:
        dataset: folder of the dataset version that is trained on.
        earlier: folder of the earlier one.
        share: of the mix that shall be earlier rows.

    Raises:
        InvalidInputError: the earlier rows lack what the objective needs.
    """
    own = read_rows(dataset / "train.parquet", recipe.objective)
    candidates = _usable(
        read_rows(earlier / "train.parquet", recipe.objective, also=("id",)),
        held_out=_prompts(row for folder in (dataset, earlier) for row in _held_out(folder)),
        known={_key(row["messages"]) for row in own},
    )
    count = wanted(len(own), share)
    rows = _drawn(candidates, count, recipe.seed)
    if len(rows) < count:
        log.warning("the earlier dataset has fewer other rows than the mix shall have", rows=len(rows), wanted=count)
    ids = [row.pop("id") for row in rows]
    return Replayed(rows, ids, len(rows) / (len(rows) + len(own)))


def wanted(new: int, share: float) -> int:
    """How many earlier rows beside `new` ones make up this share of the mix."""
    return round(new * share / (1 - share))


def answers_in(folder: Path, tokenizer: Tokenizer, recipe: TrainingRecipe, count: int) -> list[Example]:
    """As many rows of a dataset version, drawn by the recipe's seed, as the model sees them: good answers alone.

    Raises:
        InvalidInputError: none of its rows for training has its answer within the recipe's `max_length` tokens.
    """
    file = folder / "train.parquet"
    judged = [name for name in ("desired",) if name in pq.read_schema(file).names]
    good = [row["messages"] for row in read_rows(file, "sft", also=judged) if row.get("desired", True)]
    examples = [encode(tokenizer, messages, max_length=recipe.max_length) for messages in good]
    usable = [example for example in examples if example.trained_tokens]
    if not usable:
        raise InvalidInputError(
            f"training.forgetting.earlier: no row has its answer within {recipe.max_length} tokens; raise "
            "training.maxLength"
        )
    return _drawn(usable, count, recipe.seed)


def lineage(replayed: Replayed) -> dict[str, Any]:
    """What an artifact's manifest says of the replayed rows; the list of their ids is beside the result."""
    digest = hashlib.sha256(json.dumps(replayed.ids).encode()).hexdigest()
    return {"rows": len(replayed.ids), "share": round(replayed.share, 6), "ids_sha256": f"sha256:{digest}"}


def _drawn(rows: Sequence[T], count: int, seed: int) -> list[T]:
    return Random(seed).sample(rows, min(count, len(rows)))  # noqa: S311 - which rows is no secret


def _usable(candidates: Iterable[Record], *, held_out: set[str], known: set[str]) -> list[Record]:
    """Those whose prompt is in no held-out row, and which are not trained on anyway."""
    return [
        row for row in candidates if _prompt(row["messages"]) not in held_out and _key(row["messages"]) not in known
    ]


def _held_out(folder: Path) -> Iterable[Record]:
    for split in _HELD_OUT:
        yield from read_rows(folder / f"{split}.parquet", "sft")


def _prompts(rows: Iterable[Record]) -> set[str]:
    return {_prompt(row["messages"]) for row in rows}


def _prompt(messages: Sequence[Mapping[str, str]]) -> str:
    """Of a row's messages: the prompt without system messages, by which rows are held out (see data_ingest)."""
    return _key([message for message in messages[:-1] if message["role"] != "system"])


def _key(messages: Sequence[Mapping[str, str]]) -> str:
    return json.dumps([[message["role"], message["content"]] for message in messages])
