"""What several commands share."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Show at most this many.")]
PipelineFilter = Annotated[str | None, typer.Option("--pipeline", "-p", help="Only of this pipeline.")]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show every change until it ends.")]


def now() -> datetime:
    """For ages in tables."""
    return datetime.now(UTC)


class _ListByDefault(TyperGroup):
    """``tuneloop runs -o json`` means ``tuneloop runs list -o json``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def group(app: typer.Typer, name: str, help_: str) -> typer.Typer:
    """A group of commands whose default is ``list``."""
    made = typer.Typer(cls=_ListByDefault, help=help_, no_args_is_help=False)
    app.add_typer(made, name=name)
    return made
