"""The ``tuneloop`` application: its commands, and what they do with errors."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from services.cli.commands import (
    advise,
    apply,
    datasets,
    drift,
    estimate,
    evaluations,
    feedback,
    inbox,
    keys,
    models,
    pipelines,
    publish,
    rollouts,
    runs,
    teach,
    train,
)
from services.cli.demo import commands as demo
from services.cli.demo import example
from services.cli.errors import MEANING, CliError, ExitCode
from services.cli.local import commands as local
from services.cli.output import err
from shared.errors import NotFoundError, TuneloopError

INTERRUPTED = 130

HELP = "Keeps LoRA adapters fresh: a dataset becomes an adapter in production, and a bad one is rolled back."
EPILOG = "Exit codes: " + ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in MEANING) + "."


class _Root(TyperGroup):
    """Turns every error of ours into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CliError as error:
            code: int = error.code
            _complain(str(error))
        except TuneloopError as error:
            code = ExitCode.NOT_FOUND if isinstance(error, NotFoundError) else ExitCode.REFUSED
            _complain(str(error))
        except KeyboardInterrupt:
            code = INTERRUPTED
        raise typer.Exit(code)


def _complain(message: str) -> None:
    err().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def _print_version(asked: bool) -> None:
    if asked:
        try:
            typer.echo(f"tuneloop {version('tuneloop')}")
        except PackageNotFoundError:
            typer.echo("tuneloop from a source tree that is not installed")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Only the options of the command itself; everything else is in the commands."""


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        cls=_Root, name="tuneloop", help=HELP, epilog=EPILOG, no_args_is_help=True, pretty_exceptions_enable=False,
    )
    app.callback(help=HELP, epilog=EPILOG)(_root)
    local.register(app)
    demo.register(app)
    for module in (apply, publish, teach, advise, estimate):
        module.register(app)
    for group in (pipelines, datasets, train, runs, evaluations, models, rollouts, drift, feedback, inbox, keys):
        group.register(app)
    example.register(app)
    return app
