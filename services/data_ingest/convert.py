"""Rows of a file as a dataset version would have them, unsplit, for those who want to look at them before publishing.

``python -m services.data_ingest.convert FOLDER < request.json``: writes ``FOLDER/train.parquet`` with the file's good
rows in their order, and says how many there are, and what is wrong with the others.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from services.data_ingest.examples import RowError
from services.data_ingest.lines import Line, read_lines
from services.data_ingest.parquet import SplitWriters
from services.data_ingest.readers import reader_of
from shared.pipeline import DatasetRules
from shared.recipe import Objective

_EXAMPLES = 3


class Request(BaseModel):
    """Which file, read for which objective; at most `limit` rows."""

    model_config = ConfigDict(extra="forbid")

    file: Path
    objective: Objective = "sft"
    limit: int = 10_000


class Converted(BaseModel):
    """Good rows, bad rows, and what is wrong with the first of these."""

    rows: int = 0
    bad: int = 0
    problems: list[str] = []


def convert(lines: Iterable[Line], folder: Path, request: Request) -> Converted:
    """Write the good ones of `lines`."""
    found, read = Converted(), reader_of(request.objective)
    with SplitWriters(folder, request.objective) as writers:
        for line in lines:
            if line.data is None or not line.data.strip():
                continue
            if found.rows >= request.limit:
                break
            try:
                writers.write("train", read(line.data, offset=line.offset))
                found.rows += 1
            except RowError as error:
                found.bad += 1
                found.problems += [f"row {line.number}: {error}"] if len(found.problems) < _EXAMPLES else []
    return found


def main(arguments: list[str]) -> int:
    """Convert one file; the exit code. What is wrong is said on stderr."""
    try:
        request = Request.model_validate_json(sys.stdin.buffer.read())
        with request.file.open("rb") as file:
            converted = convert(read_lines(file, DatasetRules().max_row_bytes), Path(arguments[0]), request)
    except (ValidationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(converted.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
