"""The memory of a preparation: which rows were there already."""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

from services.data_ingest.examples import Example

_CACHE_KIBIBYTES = 64 * 1024


class SeenRows:
    """The set of (prompt, answer) digests, in a temporary SQLite file.

    A set of digests in memory costs more than 150 bytes a row in Python's objects, so 10 GB of short rows (50 million)
    would take 8 GB. SQLite keeps its 64 MiB of cache and puts the rest (some 40 bytes a row) on the disk, in the order
    of the digests, which is also what counting the answers of each prompt needs. Nothing here must survive a crash.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", "temp_store=FILE",
                       f"cache_size=-{_CACHE_KIBIBYTES}"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE seen (prompt BLOB, answer BLOB, PRIMARY KEY (prompt, answer)) WITHOUT ROWID"
        )
        self._connection.execute("BEGIN")

    def add(self, example: Example) -> bool:
        """Remember a row; False if an exact duplicate was remembered before."""
        done = self._connection.execute(
            "INSERT INTO seen VALUES (?, ?) ON CONFLICT DO NOTHING", (example.prompt_key, example.answer_key)
        )
        return done.rowcount == 1

    def conflicting_prompts(self) -> int:
        """How many prompts have more than one answer."""
        query = "SELECT count(*) FROM (SELECT 1 FROM seen GROUP BY prompt HAVING count(*) > 1)"
        return int(self._connection.execute(query).fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._connection.close()
