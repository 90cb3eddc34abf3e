"""Whether a dataset can be used. Pure: values in, reasons out."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from services.data_ingest.report import MAX_TASKS, Report
from services.data_ingest.split import SPLITS, Split

_MAX_REASONS = 20
FORMATS = ("jsonl",)

# The first bytes of files that are not lines of JSON, and what their owner can do.
_SIGNATURES = (
    (b"\xff\xfe", "it is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "it is UTF-16; save it as UTF-8"),
    (b"\x1f\x8b", "it is compressed with gzip; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; decompress it first"),
    (b"PK\x03\x04", "it is a zip archive; extract the file with the rows first"),
    (b"PAR1", "it is Parquet; write one JSON object on each line"),
)


def unreadable(head: bytes) -> str | None:
    """Why a file that starts with `head` is no JSON lines file at all; None where it may be one."""
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return what
    if head.lstrip().startswith(b"["):
        return "it is one JSON list; write one JSON object on each line instead (jq -c '.[]' does it)"
    return None


def unknown_format(format_: str) -> str | None:
    """What is wrong with the name of a format; None where it is known."""
    if format_ in FORMATS:
        return None
    return f"unknown format {format_!r}; supported: {', '.join(FORMATS)}"


def waited_too_long(published_at: datetime, now: datetime, grace: timedelta) -> bool:
    """Whether a dataset's pipeline should be known by now."""
    return now - published_at > grace


def reasons_to_reject(report: Report) -> list[str]:
    """Why a dataset that could be read is refused, each with its numbers; empty where it is good."""
    rules = report.rules
    if report.source_bytes == 0:
        return ["the file is empty (0 bytes)"]
    if report.rows_in == 0:
        return [f"the file has no rows: all of its {report.blank} lines are blank"]
    share = report.rows_rejected / report.rows_in
    if share > rules.max_rejected_share:
        return [
            f"{report.rows_rejected} of {report.rows_in} rows are bad ({share:.1%}), more than the allowed "
            f"{rules.max_rejected_share:.1%} (spec.dataset.maxRejectedShare)",
            *_details(report),
        ]
    if report.rows_kept < rules.min_rows:
        return [
            f"{report.rows_kept} good rows are too few, at least {rules.min_rows} are needed (spec.dataset.minRows); "
            f"the file has {report.rows_in} rows, of which {report.rows_rejected} are bad and {report.duplicates} "
            "repeat others",
            *_details(report),
        ]
    empty = [split for split in SPLITS if not report.rows[split]]
    if empty:
        sizes = ", ".join(f"{split} {report.rows[split]}" for split in SPLITS)
        return [
            f"no row fell into {' and '.join(empty)} (rows: {sizes}); rows are split by a hash of their prompt "
            f"or text, with shares of {rules.validation_share:g} for validation and {rules.test_share:g} for test: "
            "publish more different prompts or texts, or raise the shares in spec.dataset"
        ]
    return _unusable_tasks(report.tasks)


def _unusable_tasks(tasks: Mapping[str, Mapping[Split, int]]) -> list[str]:
    """Why tasks, where rows have any, cannot be trained together."""
    if len(tasks) == 1:
        return [f"all rows are of the task {next(iter(tasks))}; give others too, or remove spec.training.multiTask"]
    if len(tasks) > MAX_TASKS:
        some = ", ".join(list(tasks)[:3])
        return [f"there are more than {MAX_TASKS} different tasks, such as {some}; a task is a kind of rows, and not "
                "the name of one"]
    bare = [task for task, rows in tasks.items() if not rows["train"]]
    if bare:
        return [f"no row to train on has the task {' or '.join(bare)}: the few that do are held out; publish more"]
    return []


def _details(report: Report) -> list[str]:
    """The bad rows by reason, the most frequent first, each with its first example."""
    ranked = sorted(report.rejected.items(), key=lambda item: (-item[1], item[0]))[:_MAX_REASONS]
    return [
        f"{code}: {count} {'row' if count == 1 else 'rows'}; row {report.problems[code][0].row}: "
        f"{report.problems[code][0].message}"
        for code, count in ranked
    ]
