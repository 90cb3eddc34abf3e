"""Which rows an epoch of several tasks has. Pure."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence


def draws(sizes: Mapping[str, int], temperature: float) -> dict[str, int]:
    """How many rows of each task make an epoch.

    A task of n rows gets a share proportional to ``n ** (1 / temperature)`` (Raffel et al., arXiv 1910.10683, section
    3.5.2): 1 leaves them as they are, and the higher it is, the more equal tasks become. Shares could be met by leaving
    out rows of large tasks or by repeating those of small ones; here no row is left out, so the epoch is as long as the
    largest task needs, which is seen once.

    Args:
        sizes: rows by task, each at least 1.
        temperature: at least 1.
    """
    weights = {task: size ** (1 / temperature) for task, size in sizes.items()}
    # Rows for each unit of weight: what the task with the most rows for its weight, the largest one, needs.
    each = max(sizes[task] / weight for task, weight in weights.items())
    return {task: max(sizes[task], round(weight * each)) for task, weight in weights.items()}


def epoch_rows(tasks: Sequence[str], temperature: float, seed: int) -> list[int]:
    """The indices of an epoch's rows, task by task; the trainer shuffles them.

    A task's rows are drawn without replacement until all were there, and then again: of any two of its rows, one is
    there at most once more often than the other.

    Args:
        tasks: of each row.
        seed: decides which rows are the ones that are there once more.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for index, task in enumerate(tasks):
        rows[task].append(index)
    wanted = draws({task: len(own) for task, own in rows.items()}, temperature)
    chosen: list[int] = []
    for task, own in sorted(rows.items()):
        whole, rest = divmod(wanted[task], len(own))
        # Of each task by itself, so that rows added to one leave the others' draw as it was.
        chosen += own * whole + sorted(random.Random(f"{seed}/{task}").sample(own, rest))  # noqa: S311 - no secret
    return chosen
