"""Training rows with personal data or secrets in them: counted and told, and not changed.

Whoever publishes rows decides what may be in them; but a model that learned a card number may tell it to anybody.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from shared.redact import redact

MOST_CHARACTERS = 5_000_000
"""That are looked at, from the first row on: about two seconds, so that a run begins soon whatever its size."""
_COLUMNS = ("messages", "rejected", "text")


def personal_rows(file: Path, most: int = MOST_CHARACTERS) -> dict[str, float]:
    """As a run tells it: how many rows of a split hold something of a form that `shared.redact` knows, and how many
    were looked at.
    """
    found = scanned = characters = 0
    for row in _rows(file):
        if characters >= most:
            break
        texts = list(_texts(row))
        found += any(redact(text).found for text in texts)
        characters += sum(map(len, texts))
        scanned += 1
    return {"personal_rows": found, "scanned_rows": scanned}


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    columns = [name for name in _COLUMNS if name in pq.read_schema(file).names]
    for batch in pq.ParquetFile(file).iter_batches(batch_size=1000, columns=columns):
        yield from batch.to_pylist()


def _texts(row: dict[str, Any]) -> Iterator[str]:
    yield from (message["content"] for message in row.get("messages") or ())
    yield from (row[name] for name in ("rejected", "text") if row.get(name))
