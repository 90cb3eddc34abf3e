"""A dataset version as token rows of the objective, with the loss on answers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from services.trainer.job.documents import load_windows
from services.trainer.job.masks import check_ends, count_ends
from services.trainer.job.mixture import epoch_rows
from services.trainer.job.rows import Record, read_rows, reader, require_columns
from shared.errors import InvalidInputError
from shared.prompts import Tokenizer
from shared.recipe import TrainingRecipe


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
            load_windows(require_columns(folder / f"{name}.parquet", recipe.objective), tokenizer, recipe.max_length)
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
