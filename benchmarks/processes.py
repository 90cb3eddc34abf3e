"""Measurements in processes of their own, which say what they found as JSON in their last line."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def said_by(what: str, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Any:
    """What ``python -m module arguments`` said.

    Args:
        what: is measured, for the message where that fails.
        environment: beside this process's own.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})
    if done.returncode:
        raise SystemExit(f"{what} failed: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
