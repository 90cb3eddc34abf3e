"""Rows of a dataset version, as data_ingest wrote them and as tokens of an objective. Nothing here imports torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.parquet as pq

from shared.errors import InvalidInputError
from shared.prompts import Tokenizer, encode
from shared.recipe import RL, Objective, TrainingRecipe

Record: TypeAlias = dict[str, Any]

# What a dataset version has beside its names, where it was prepared for the objective.
COLUMNS: dict[Objective, tuple[str, ...]] = {
    "sft": ("messages",), "distill": ("messages",), "pretrain": ("text",), "dpo": ("messages", "rejected"),
    "kto": ("messages", "desired"), "reward": ("messages", "rejected"), "grpo": ("messages",), "rloo": ("messages",),
    "ppo": ("messages",),
}


def require_columns(file: Path, objective: Objective, *, also: Sequence[str] = ()) -> Path:
    """The file, which has what the objective needs.

    Raises:
        InvalidInputError: it was prepared for another objective, or without tasks.
    """
    there = pq.read_schema(file).names
    missing = [name for name in (*COLUMNS[objective], *also) if name not in there]
    if missing:
        key = "multiTask" if missing == ["task"] else f"objective: {objective}"
        raise InvalidInputError(
            f"the dataset has no {', '.join(missing)}: it was prepared before the pipeline had training.{key}; "
            "publish it again, with the rows that docs/training.md shows"
        )
    return file


def read_rows(file: Path, objective: Objective, *, also: Sequence[str] = ()) -> list[Record]:
    """A split's rows as data_ingest wrote them for an objective, with other columns, too.

    Raises:
        InvalidInputError: they were prepared for another objective, or without tasks.
    """
    wanted = [*COLUMNS[objective], *also]
    rows: list[Record] = pq.read_table(require_columns(file, objective, also=also), columns=wanted).to_pylist()
    return rows


def reader(recipe: TrainingRecipe, tokenizer: Tokenizer) -> Callable[[Record], Record | None]:
    """From a row to its tokens; None where nothing of an answer is left within `max_length`."""

    def supervised(row: Record) -> Record | None:
        example = encode(tokenizer, row["messages"], max_length=recipe.max_length)
        task = {"task": row["task"]} if "task" in row else {}
        return {"input_ids": example.input_ids, "labels": example.labels, **task} if example.trained_tokens else None

    def preferred(row: Record) -> Record | None:
        chosen, rejected = (
            encode(tokenizer, messages, max_length=recipe.max_length)
            for messages in (row["messages"], [*row["messages"][:-1], _answer(row["rejected"])])
        )
        if not chosen.trained_tokens or not rejected.trained_tokens:
            return None
        return {"prompt_ids": chosen.input_ids[: chosen.prompt_length],
                "chosen_ids": chosen.input_ids[chosen.prompt_length :],
                "rejected_ids": rejected.input_ids[rejected.prompt_length :]}

    def judged(row: Record) -> Record | None:
        example = encode(tokenizer, row["messages"], max_length=recipe.max_length)
        if not example.trained_tokens:
            return None
        return {"prompt_ids": example.input_ids[: example.prompt_length],
                "completion_ids": example.input_ids[example.prompt_length :], "label": row["desired"]}

    def rewarded(row: Record) -> Record | None:
        example = encode(tokenizer, row["messages"])
        if example.prompt_length + recipe.rl.max_new_tokens > recipe.max_length:
            return None
        return {"prompt_ids": example.input_ids[: example.prompt_length],
                "completion_ids": example.input_ids[example.prompt_length :],
                "prompt": row["messages"][:-1], "reference": row["messages"][-1]["content"]}

    if recipe.objective in RL:
        return rewarded
    if recipe.objective in ("dpo", "reward"):
        return preferred
    return judged if recipe.objective == "kto" else supervised


def _answer(text: str) -> Mapping[str, str]:
    return {"role": "assistant", "content": text}
