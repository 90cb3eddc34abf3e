"""`tuneloop keys`: API keys for the gateway.

No service is asked: a key is random, and the gateway's file lists its hash.
"""

import secrets
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from services.cli.commands.common import now
from services.cli.errors import CliError, ExitCode
from services.cli.output import OutputFormat, OutputOption, emit
from shared.api_keys import ALL_ROUTES, entry_yaml, new_key
from shared.spec_part import parse_duration

_ID_BYTES = 5


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = typer.Typer(help="API keys for the gateway.", no_args_is_help=True)
    app.add_typer(commands, name="keys")
    # A group of one command would otherwise be that command.
    commands.callback()(lambda: None)
    commands.command("new")(new)


def new(
    *,
    route: Annotated[list[str], typer.Option("--route", "-r", help="A route that it may use; '*' alone for all.")],
    rpm: Annotated[float, typer.Option("--rpm", help="Requests per minute, in the long run.")],
    burst: Annotated[int | None, typer.Option(min=1, help="Requests at once; a minute's tenth by default.")] = None,
    expires_in: Annotated[str | None, typer.Option(help="Such as 90d; never by default.")] = None,
    key_id: Annotated[str | None, typer.Option("--id", help="Its name in metrics; random by default.")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a key: printed once, with the entry for the gateway's file.

    The key itself is kept nowhere. Append the entry under `keys:` in the file that TUNELOOP_API_KEYS_FILE names; the
    gateway takes it up by itself. docs/gateway.md describes the file.
    """
    expires = now().replace(microsecond=0) + _duration(expires_in) if expires_in else None
    key, entry = new_key(
        key_id or secrets.token_hex(_ID_BYTES), routes=frozenset(route), requests_per_minute=rpm,
        burst=burst or max(1, round(rpm / 10)), expires=expires,
    )
    answer = {"key": key, "entry": entry.model_dump(mode="json", exclude_none=True)}
    emit(answer, output, lambda _: _view(key, entry_yaml(entry), all_routes=ALL_ROUTES in entry.routes))


def _view(key: str, entry: str, *, all_routes: bool) -> RenderableType:
    scope: list[Any] = [Text("It may use every route, also those to come.\n", style="yellow")] if all_routes else []
    return Group(
        Text("The key, shown this once:\n"), Text(f"{key}\n", style="bold"), *scope,
        Text("For the gateway's file, under `keys:`\n"), Text(entry),
    )


def _duration(text: str) -> timedelta:
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise CliError(f"--expires-in: {error}", ExitCode.USAGE) from error
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise CliError(f"--expires-in: {text!r} is not a time from now", ExitCode.USAGE)
    return value
