"""The memory that a process may use, what of it a row takes at most, and words for when it runs out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.compute as pc
import torch
from datasets import Dataset

from shared.errors import PermanentError
from shared.recipe import TrainingRecipe

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def longest_row(rows: Dataset, drawn: int | None = None) -> int:
    """Tokens of the longest row; where a prompt has several answers, at most so many.

    Args:
        drawn: where answers are drawn, tokens of the longest; the rows' own are only compared with them.
    """
    lengths = {
        name: pc.max(pc.list_value_length(rows.data.column(name))).as_py() or 0
        for name in rows.column_names if name.endswith("_ids")
    }
    if "input_ids" in lengths:
        return int(lengths["input_ids"])
    prompt = lengths.pop("prompt_ids", 0)
    return int(prompt + (max(lengths.values(), default=0) if drawn is None else drawn))


def memory_here(read: Callable[[], str] = _CGROUP.read_text) -> tuple[bool, int]:
    """Whether there is a GPU, and the bytes of its memory, or of those that this process may use."""
    if torch.cuda.is_available():
        return True, int(torch.cuda.mem_get_info()[1])
    total = int(psutil.virtual_memory().total)
    try:
        return False, min(total, int(read()))
    except (OSError, ValueError):  # no cgroup of version 2, or one without a limit: "max"
        return False, total


@contextmanager
def explained(recipe: TrainingRecipe) -> Iterator[None]:
    """Say what to change where memory runs out inside.

    Raises:
        PermanentError: it did.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "not enough memory" not in str(error):
            raise
        raise PermanentError(
            f"out of memory: lower training.batchSize (now {recipe.batch_size}) and raise gradientAccumulation by as "
            f"much, lower maxLength (now {recipe.max_length}), or train with qlora or on a larger machine "
            f"(training.resources). {str(error).splitlines()[0] if str(error) else ''}".rstrip()
        ) from error
