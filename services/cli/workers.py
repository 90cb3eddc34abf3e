"""Asks modules that import what the command line must not: each question is a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.cli.client import Json
from services.cli.errors import CliError

# Python looks for modules where it is started; a folder of the user's, named services too, is not ours.
_ROOT = Path(__file__).resolve().parents[2]


def ask(
    module: str, request: Json, *arguments: str, who: str, extra: str, timeout: float, hint: str,
    environment: Mapping[str, str] | None = None,
) -> Json:
    """The JSON that a module answers to the JSON on its standard input.

    Args:
        who: what to call it in messages.
        extra: the extra of tuneloop that installs what it needs.
        timeout: in seconds; `hint` says how to ask for less.
        environment: added to this process's.

    Raises:
        CliError: it refused the question, took too long, or cannot run here.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], input=json.dumps(request), capture_output=True, text=True,
            timeout=timeout, cwd=_ROOT, check=False, env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise CliError(f"{who} took longer than {timeout:g} s; {hint}") from error
    if done.returncode == 0:
        answer: Json = json.loads(done.stdout)
        return answer
    raise CliError(_why(done.stderr.strip().splitlines(), done.returncode, who, extra))


def _why(said: Sequence[str], code: int, who: str, extra: str) -> str:
    last = said[-1] if said else "nothing was said"
    if "ModuleNotFoundError" in last:
        return f"{who} needs what is not installed here ({last}): pip install 'tuneloop[{extra}]'"
    refused = code == 1 and not any(line.startswith("Traceback") for line in said)
    return last if refused else f"{who} failed: {last}"
