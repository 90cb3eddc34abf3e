"""Which rows a pipeline's objective takes."""

from functools import partial
from typing import Protocol

from services.data_ingest.documents import parse_document
from services.data_ingest.examples import Example, parse_row
from shared.recipe import Objective


class Reader(Protocol):
    """From one line of a file to the row in it; `offset` is the line's place, for messages."""

    def __call__(self, data: bytes, *, offset: int) -> Example: ...


def reader_of(objective: Objective, *, by_task: bool = False) -> Reader:
    """What reads the rows of an objective; it raises `RowError` for one that cannot be used.

    Args:
        by_task: whether each row must say its task.
    """
    return parse_document if objective == "pretrain" else partial(parse_row, objective=objective, by_task=by_task)
