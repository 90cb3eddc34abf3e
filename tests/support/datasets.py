"""Rows for tests of whatever handles datasets."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def rows(count: int, *, start: int = 0, answers: int = 5) -> list[dict[str, Any]]:
    """Different prompts with few answers, as for classification."""
    return [{"prompt": f"question {i}", "completion": f"label {i % answers}"} for i in range(start, start + count)]


def jsonl(items: Iterable[Any]) -> bytes:
    """One JSON document a line."""
    return b"".join(json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in items)


def write_jsonl(path: Path, items: Iterable[Any]) -> Path:
    """A JSON lines file."""
    path.write_bytes(jsonl(items))
    return path
