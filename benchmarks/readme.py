"""The part of a benchmark's README.md that its results write. Pure."""

from collections.abc import Callable

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def between_marks(text: str, measured: Callable[[], str]) -> str:
    """A README with what was measured between its two marks.

    Args:
        measured: makes that part; not called where it has no place.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md needs the lines {BEGIN} and {END}, between which the measured part is written")
    return f"{before}{BEGIN}\n{measured()}{END}{after}"
