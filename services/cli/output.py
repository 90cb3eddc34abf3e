"""What commands print, and where.

Results go to stdout: a table for people, or JSON or YAML and nothing else. Everything else, such as progress, live
views and errors, goes to stderr, so that ``tuneloop ... -o json | jq`` always works.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# Columns are cut to the terminal; into a file or a pipe they are written whole.
_PIPE_WIDTH = 400

Json = Any
Cell = str | Text


class OutputFormat(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[
    OutputFormat, typer.Option("--output", "-o", help="table is for people, json and yaml are for scripts.")
]


def out() -> Console:
    """Standard output, for results."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def err() -> Console:
    """Standard error, for everything else."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH, highlight=False)


def emit(value: Json, output: OutputFormat, table: Callable[[Json], RenderableType] | None = None) -> None:
    """Print a result.

    Args:
        value: what the service answered.
        table: makes the view for people from it; without one, they get YAML.
    """
    if output is OutputFormat.JSON:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    elif output is OutputFormat.YAML or table is None:
        sys.stdout.write(to_yaml(value))
    else:
        out().print(table(value))


def to_yaml(value: Json) -> str:
    """YAML in the order of the keys, lines unbroken."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def rows(
    items: Sequence[Mapping[str, Any]], columns: Mapping[str, Callable[[Mapping[str, Any]], Cell]], *, empty: str
) -> RenderableType:
    """A table with a column per entry of `columns`, or the sentence `empty` where there is nothing."""
    if not items:
        return Text(empty)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    for item in items:
        table.add_row(*(_text(cell(item)) for cell in columns.values()))
    return table


def pairs(facts: Mapping[str, Cell]) -> Table:
    """Name and value, one a line; empty values are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, _text(value))
    return table


def _text(cell: Cell) -> Text:
    """Never as markup: names and reasons may hold square brackets."""
    return cell if isinstance(cell, Text) else Text(cell)
