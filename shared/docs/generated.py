"""Files that are made from the code: written, or compared with what is there."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path


def stale(files: Iterable[tuple[Path, str]]) -> list[Path]:
    """Those files that hold something else."""
    return [path for path, text in files if not path.exists() or path.read_text() != text]


def write_or_check(files: Mapping[Path, str], arguments: list[str], *, remedy: str = "make generate") -> int:
    """Write the files that are stale, or with ``--check`` name them; the exit code.

    Args:
        remedy: the command that writes them.
    """
    old = stale(files.items())
    if "--check" in arguments:
        for path in old:
            sys.stderr.write(f"stale: {os.path.relpath(path)}; run `{remedy}`\n")
        return int(bool(old))
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
    return 0
