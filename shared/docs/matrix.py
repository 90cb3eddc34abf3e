"""Writes the tables of docs/training.md that say what goes together, from what `tuneloop apply` refuses.

    python -m shared.docs.matrix [--check]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from shared.docs.generated import write_or_check
from shared.recipe import Method, Objective
from shared.recipe_matrix import METHODS, OBJECTIVES, OPTIONS, Option, methods_for

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
BEGIN = "<!-- made by `python -m shared.docs.matrix` from the checks of recipes -->\n"
END = "<!-- end of what is made -->\n"


def page(text: str) -> str:
    """The page with its tables as they must be.

    Raises:
        ValueError: it lacks the marks between which they stand.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks the lines {BEGIN.strip()} and {END.strip()}, between which its tables stand")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def tables() -> str:
    """Methods by objectives, and options by objectives."""
    learned = [[f"`{method}`", *("yes" if method in methods_for(each) else "no" for each in OBJECTIVES)]
               for method in METHODS]
    along = [[f"`{option}`", *(_who(each, option) for each in OBJECTIVES)] for option in OPTIONS]
    return f"{_table('method', learned)}\n{_table('with', along)}"


def _table(corner: str, lines: Sequence[Sequence[str]]) -> str:
    head = [f"`{corner}`" if corner == "method" else corner, *(f"`{each}`" for each in OBJECTIVES)]
    rule = ["---"] * len(head)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


def _who(objective: Objective, option: Option) -> str:
    """Of the methods that learn the objective those that take the option."""
    able, every = methods_for(objective, option), methods_for(objective)
    missing = [method for method in every if method not in able]
    if not able:
        return "no"
    if not missing:
        return "yes"
    return f"not {_names(missing)}" if len(missing) < len(able) else _names(able)


def _names(methods: Sequence[Method]) -> str:
    return ", ".join(f"`{method}`" for method in methods)


def main(arguments: list[str]) -> int:
    """Write or check the page; the exit code."""
    return write_or_check({PAGE: page(PAGE.read_text())}, arguments, remedy="python -m shared.docs.matrix")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
