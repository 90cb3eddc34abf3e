"""The held-out rows: read from a dataset's test split, chosen by hash, turned into tokens."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from shared.documents import document_ids, windows
from shared.errors import IntegrityError, InvalidInputError
from shared.events import DatasetRef
from shared.prompts import Example, answer_of, encode, end_token_id
from shared.s3 import ArtifactStore

TEST_SPLIT = "test.parquet"
WINDOW = 1024
"""Tokens of a text that a model reads at once, so that the logits over a large vocabulary stay below 1 GB."""


@dataclass(frozen=True)
class Row:
    """One held-out row.

    Attributes:
        expected: the right answer; of a text, all of it.
        example: None where it does not fit the model, and `note` says why; and for a text.
        task: of the row, where rows have tasks.
        prompt: what is asked, whose last message the answer follows; of a text, nothing.
        windows: a text's tokens, see `shared.documents.windows`; no other row has any.
    """

    id: str
    expected: str
    example: Example | None
    note: str = ""
    task: str | None = None
    prompt: Sequence[Mapping[str, str]] = ()
    windows: Sequence[Sequence[int]] = ()

    @property
    def probe(self) -> Example | None:
        """What tells whether a model with an adapter answers otherwise than without."""
        if not self.windows:
            return self.example
        window = list(self.windows[0])
        return Example(input_ids=window, prompt_length=len(window) - 1)


def fetch_split(store: ArtifactStore, dataset: DatasetRef, folder: Path) -> Path:
    """The file of a dataset's test split, checked against the dataset's digest; the other splits stay where they are.

    Raises:
        IntegrityError: what is in S3 is not what the digest promises.
        InvalidInputError: the split is missing.
    """
    uri, digest = dataset.artifact.uri, dataset.artifact.digest
    manifest = store.manifest(uri)
    if manifest is None:
        raise InvalidInputError(f"{uri}: the dataset {dataset.dataset_id} is not there")
    if manifest.digest != digest:
        raise IntegrityError(f"{uri}: expected digest {digest}, but its manifest says {manifest.digest}")
    entry = next((entry for entry in manifest.files if entry.path == TEST_SPLIT), None)
    if entry is None:
        raise InvalidInputError(f"{uri}: the dataset {dataset.dataset_id} has no {TEST_SPLIT}")
    path = folder / f"{digest.removeprefix('sha256:')}.parquet"
    store.download(uri + TEST_SPLIT, path, sha256=entry.sha256)
    return path


def fetch_test_split(store: ArtifactStore, dataset: DatasetRef, folder: Path) -> list[dict[str, Any]]:
    """The rows of a dataset's test split; raises what `fetch_split` does, and InvalidInputError where there are none.
    """
    path = fetch_split(store, dataset, folder)
    columns = [name for name in ("id", "messages", "desired", "text", "task") if name in pq.read_schema(path).names]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    # For kto: an answer that was found bad is nothing to be measured by.
    rows = [row for row in rows if row.get("desired", True)]
    if not rows:
        raise InvalidInputError(
            f"{dataset.artifact.uri}: the dataset {dataset.dataset_id} has no test rows to evaluate on"
        )
    return rows


def choose(rows: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows, by a hash of their id: always the same ones, and mostly so when rows are added."""
    return sorted(rows, key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest())[:limit]


def prepare(tokenizer: Any, rows: Sequence[dict[str, Any]], *, context: int, max_new_tokens: int) -> list[Row]:
    """The rows as tokens.

    Args:
        context: how many tokens the model can read and write.

    Raises:
        InvalidInputError: a row does not end in an answer; the message names it.
    """
    return [
        _prepare_text(tokenizer, row, context) if "text" in row else _prepare(tokenizer, row, context, max_new_tokens)
        for row in rows
    ]


def _prepare(tokenizer: Any, row: dict[str, Any], context: int, max_new_tokens: int) -> Row:
    try:
        expected, example = answer_of(row["messages"]), encode(tokenizer, row["messages"])
    except InvalidInputError as error:
        raise InvalidInputError(f"row {row['id']}: {error}") from error
    needed = max(len(example.input_ids), example.prompt_length + max_new_tokens)
    if needed > context:
        note = f"needs {needed} tokens with its answer, and the model has a context of {context}"
        return Row(id=row["id"], expected=expected, example=None, note=note, task=row.get("task"))
    return Row(
        id=row["id"], expected=expected, example=example, task=row.get("task"), prompt=row["messages"][:-1]
    )


def _prepare_text(tokenizer: Any, row: dict[str, Any], context: int) -> Row:
    """Without an end token, which has no bytes, and which a text that was cut off would not have."""
    (ids,) = document_ids(tokenizer, [row["text"]])
    start = end_token_id(tokenizer)
    if ids[0] == tokenizer.bos_token_id:  # of which there is nothing to predict
        start, ids = ids[0], ids[1:]
    if ids[-1:] == [end_token_id(tokenizer)]:  # which some tokenizers write themselves
        ids = ids[:-1]
    cut = windows([ids], start=start, length=min(context, WINDOW))
    return Row(id=row["id"], expected=row["text"], example=None, windows=list(cut))
