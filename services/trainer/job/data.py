"""A dataset version as token rows of the objective, with the loss on answers alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.parquet as pq
from datasets import Dataset

from services.trainer.job.documents import load_windows
from services.trainer.job.masks import check_ends, count_ends
from services.trainer.job.mixture import epoch_rows
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


@dataclass(frozen=True)
class Splits:
    """What is trained on and what is validated on.

    Attributes:
        train, validation: rows; where texts are learned, windows of them.
        tasks: the validation rows of each task, where rows have tasks.
        skipped: rows of both whose prompt alone fills `max_length`, so that no answer is left to learn.
        ends: training rows whose answer's end token is trained; the others were cut before it. None where
            texts are learned, which are not cut.
    """

    train: Dataset
    validation: Dataset
    skipped: int
    ends: int | None
    tasks: Mapping[str, Dataset] = field(default_factory=dict)


def load_splits(
    folder: Path, tokenizer: Tokenizer, recipe: TrainingRecipe, *, replayed: Sequence[Record] = ()
) -> Splits:
    """The train and validation rows of a dataset version's folder.

    Args:
        replayed: rows of an earlier one, which are trained on, too.

    Raises:
        InvalidInputError: no row has an answer within `max_length` tokens, too few have its end, or the rows are of
            another objective.
    """
    if recipe.objective == "pretrain":
        texts, held = (
            load_windows(_checked(folder / f"{name}.parquet", recipe.objective), tokenizer, recipe.max_length)
            for name in ("train", "validation")
        )
        return Splits(texts, held, skipped=0, ends=None)
    also = () if recipe.multi_task is None else ("task",)
    train, validation = (
        read_rows(folder / f"{name}.parquet", recipe.objective, also=also) for name in ("train", "validation")
    )
    train = [*train, *replayed]
    usable, checked = ([r for r in map(reader(recipe, tokenizer), rows) if r] for rows in (train, validation))
    if not usable or not checked:
        raise InvalidInputError(
            f"no {'train' if not usable else 'validation'} row has its answer within {recipe.max_length} tokens; "
            "raise training.maxLength, or shorten the prompts"
        )
    skipped = len(train) + len(validation) - len(usable) - len(checked)
    tasks: dict[str, Dataset] = {}
    if recipe.multi_task is not None:
        chosen = epoch_rows([record["task"] for record in usable], recipe.multi_task.temperature, recipe.seed)
        usable = [usable[index] for index in chosen]
        tasks = {
            name: Dataset.from_list([record for record in checked if record["task"] == name])
            for name in sorted({record["task"] for record in checked})
        }
    ends = count_ends(usable, tokenizer)
    check_ends(ends, recipe.max_length)
    if recipe.objective == "kto":
        usable, checked = (_mismatched(records, recipe.batch_size) for records in (usable, checked))
    return Splits(Dataset.from_list(usable), Dataset.from_list(checked), skipped, ends.trained, tasks)


def _checked(file: Path, objective: Objective, *, also: Sequence[str] = ()) -> Path:
    """The file, which has what the objective needs."""
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
    rows: list[Record] = pq.read_table(_checked(file, objective, also=also), columns=wanted).to_pylist()
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


def _mismatched(records: Sequence[Record], batch: int) -> list[Record]:
    """Each row with another row's answer too, from which KTO estimates its KL term (arXiv 2402.01306, section 4.1).

    Within batches of neighbours each prompt gets its left neighbour's answer, the first one that of the last.
    """
    return [
        {**record, "KL_completion_ids": group[index - 1]["completion_ids"]}
        for start in range(0, len(records), batch)
        for group in [records[start : start + batch]]
        for index, record in enumerate(group)
    ]
