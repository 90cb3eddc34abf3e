"""Writing the splits as Parquet, in bounded memory, the same bytes for the same rows."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from services.data_ingest.examples import Example
from services.data_ingest.split import SPLITS, Split
from shared.recipe import Objective

_NAMES = (pa.field("id", pa.string(), nullable=False), pa.field("group", pa.string(), nullable=False))
_MESSAGES = pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False)
_TASK = pa.field("task", pa.string(), nullable=False)
# By the pipeline's objective; each column is an attribute of an example.
_CONTENT: dict[Objective, tuple[pa.Field, ...]] = {
    "sft": (_MESSAGES,),
    "distill": (_MESSAGES,),
    "dpo": (_MESSAGES, pa.field("rejected", pa.string(), nullable=False)),
    "grpo": (_MESSAGES,),
    "rloo": (_MESSAGES,),
    "ppo": (_MESSAGES,),
    "reward": (_MESSAGES, pa.field("rejected", pa.string(), nullable=False)),
    "kto": (_MESSAGES, pa.field("desired", pa.bool_(), nullable=False)),
    "pretrain": (pa.field("text", pa.string(), nullable=False),),
}
# A row group is what a writer, and later a reader, holds in memory. Both bounds depend on the rows alone, so that the
# same rows always make the same groups.
GROUP_ROWS = 10_000
GROUP_CHARACTERS = 16_000_000


class SplitWriters:
    """One Parquet file a split: ``<folder>/<split>.parquet``. A file without rows is written too."""

    def __init__(self, folder: Path, objective: Objective = "sft", *, by_task: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        schema = pa.schema([*_NAMES, *_CONTENT[objective], *([_TASK] if by_task else [])])
        self._writers = {
            split: self._stack.enter_context(_SplitWriter(folder / f"{split}.parquet", schema)) for split in SPLITS
        }

    def write(self, split: Split, example: Example) -> None:
        """Append one row."""
        self._writers[split].write(example)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)


class _SplitWriter:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", version="2.6")
        self._rows: list[tuple[Any, ...]] = []
        self._characters = 0

    def write(self, example: Example) -> None:
        self._rows.append(tuple(getattr(example, name) for name in self._schema.names))
        self._characters += sum(len(content) for _, content in example.messages)
        if len(self._rows) >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        values = zip(*self._rows, strict=True)
        columns = [pa.array(column, type=field.type) for column, field in zip(values, self._schema, strict=True)]
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=GROUP_ROWS)
        self._rows, self._characters = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._rows:
            self._flush()
        self._writer.close()
