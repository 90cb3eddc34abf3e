"""Makes a base model's folder: ``python -m shared.base_models NAME TARGET``."""

import sys
from pathlib import Path

from shared.base_models import BUILDERS
from shared.errors import TuneloopError


def main(arguments: list[str]) -> int:
    """The exit code: 2 for a wrong call, 1 where the model cannot be made; stderr says why."""
    if len(arguments) != 2 or arguments[0] not in BUILDERS:
        sys.stderr.write(f"usage: python -m shared.base_models {{{','.join(BUILDERS)}}} TARGET\n")
        return 2
    try:
        BUILDERS[arguments[0]](Path(arguments[1]))
    except TuneloopError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
