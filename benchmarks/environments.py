"""Virtual environments of their own for contenders whose requirements are not ours, in ``.venv-bench``, made once."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENTS = Path(".venv-bench")


def install(name: str, *steps: Sequence[str]) -> Path:
    """The programs' folder of a contender's own environment, made where it is not there or holds something else.

    Args:
        steps: what pip is given to install, one call after the other.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    folder = ENVIRONMENTS / name
    marker = folder / ".installed"
    wanted = "\n".join(" ".join(step) for step in steps)
    if not marker.exists() or marker.read_text() != wanted:
        sys.stderr.write(f"installing {wanted} into {folder}\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for step in steps:
            subprocess.run([*pip, *step], check=True)
        marker.write_text(wanted)
    return folder / "bin"
