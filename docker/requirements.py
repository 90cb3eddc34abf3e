"""Prints what some extras of pyproject.toml need, one requirement a line: ``requirements.py [--only] EXTRA,EXTRA``.

The images install this before the source is there, so that a change of the source leaves the layer of packages as it
is. With --only, without what every service needs. Standard library only.
"""

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def requirements(extras: list[str], *, base: bool = True) -> list[str]:
    """The requirements of the project (where `base`) and of its extras.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(PROJECT.read_text())["project"]
    found = list(project["dependencies"]) if base else []
    for extra in extras:
        found += project["optional-dependencies"][extra]
    return list(dict.fromkeys(found))


def main(arguments: list[str]) -> int:
    """Print them; the exit code is 2 where an extra does not exist."""
    base = arguments[:1] != ["--only"]
    extras = [extra for extra in (arguments[-1] if arguments else "").split(",") if extra and extra != "--only"]
    try:
        sys.stdout.write("\n".join(requirements(extras, base=base)) + "\n")
    except KeyError as error:
        sys.stderr.write(f"pyproject.toml has no extra {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
