"""Entry of the ``tuneloop`` command."""

import sys

from services.cli.app import build_app


def main() -> int:
    """Run the command line; the exit code, see `services.cli.errors`."""
    try:
        build_app()(prog_name="tuneloop")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
