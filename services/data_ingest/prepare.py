"""From a file of rows to a folder with a dataset version: one pass, bounded memory, no network.

    train.parquet, validation.parquet, test.parquet   columns id, group, messages; for texts id, group, text;
                                                      where the pipeline trains several tasks also task
    report.json                                       see `services.data_ingest.report`
    profile.json                                      see `shared.profiles`, for live traffic; there is none of texts
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.data_ingest.decide import reasons_to_reject, unreadable
from services.data_ingest.documents import Document
from services.data_ingest.examples import Example, RowError
from services.data_ingest.lines import Line, read_lines
from services.data_ingest.parquet import SplitWriters
from services.data_ingest.readers import Reader, reader_of
from services.data_ingest.report import Report, Tally
from services.data_ingest.seen import SeenRows
from services.data_ingest.split import split_of
from shared.pipeline import DatasetRules
from shared.profiles import PROFILE_FILE, ProfileBuilder
from shared.recipe import Objective
from shared.s3 import sha256_of

UTF8_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 64


@dataclass(frozen=True)
class Prepared:
    """The end of a preparation. `folder` holds a dataset version only where there are no `reasons` against it."""

    folder: Path
    reasons: list[str]
    report: Report | None


def prepare(
    source: Path, scratch: Path, rules: DatasetRules, *, objective: Objective = "sft", by_task: bool = False,
    on_line: Callable[[], None] = lambda: None,
) -> Prepared:
    """Validate, normalise, deduplicate and split the rows of a file.

    Args:
        source: the JSON lines file.
        objective: of the pipeline's training, which decides what a row must have.
        by_task: whether each row must say its task.
        scratch: an empty folder for the result and for temporary files.
        on_line: called before each line; what it raises ends the preparation.
    """
    folder = scratch / "dataset"
    with source.open("rb") as file:
        what = unreadable(file.read(_HEAD_BYTES))
    if what is not None:
        return Prepared(folder, [f"the file cannot be read as JSON lines: {what}"], None)
    profile = ProfileBuilder()
    with SplitWriters(folder, objective, by_task=by_task) as writers:
        report = _write_splits(
            source, writers, scratch / "seen.db", rules, reader_of(objective, by_task=by_task), profile=profile,
            on_line=on_line,
        )
    (folder / "report.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    built = profile.build()
    if built is not None:
        (folder / PROFILE_FILE).write_text(built.model_dump_json() + "\n", encoding="utf-8")
    return Prepared(folder, reasons_to_reject(report), report)


def _write_splits(
    source: Path, writers: SplitWriters, scratch: Path, rules: DatasetRules, read: Reader, *,
    profile: ProfileBuilder, on_line: Callable[[], None],
) -> Report:
    tally = Tally()
    with source.open("rb") as file, SeenRows(scratch) as seen:
        for line in read_lines(file, rules.max_row_bytes):
            on_line()
            example = _take(line, rules, tally, seen, writers, read=read)
            if example is not None and not isinstance(example, Document):
                profile.add(example.id, example.messages)
        conflicting = seen.conflicting_prompts()
    return tally.report(
        source_sha256=sha256_of(source), source_bytes=source.stat().st_size, rules=rules, conflicting=conflicting
    )


def _take(
    line: Line, rules: DatasetRules, tally: Tally, seen: SeenRows, writers: SplitWriters, *, read: Reader
) -> Example | None:
    """Put one line where it belongs; the row, where it was kept."""
    data, offset = line.data, line.offset
    if data is not None and offset == 0 and data.startswith(UTF8_BOM):
        data, offset = data[len(UTF8_BOM):], len(UTF8_BOM)
    if data is not None and not data.strip():
        tally.blank += 1
        return None
    tally.rows_in += 1
    if data is None:
        tally.reject(
            line.number, "too_large", f"the row has {line.size} bytes, more than the allowed {rules.max_row_bytes} "
            "(spec.dataset.maxRowBytes); shorten it or split it into several rows",
        )
        return None
    try:
        example = read(data, offset=offset)
    except RowError as error:
        tally.reject(line.number, error.code, str(error))
        return None
    tally.ignore(example.ignored)
    if not seen.add(example):
        tally.duplicates += 1
        return None
    split = split_of(example.group, rules)
    writers.write(split, example)
    tally.keep(split, example)
    return example
