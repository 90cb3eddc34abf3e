"""`tuneloop inbox`: the events that a service could not handle."""

from typing import Annotated

import typer
from rich.text import Text

from services.cli import views
from services.cli.client import Json, Service
from services.cli.commands.common import LimitOption, group, now
from services.cli.endpoints import INBOX_SERVICES
from services.cli.errors import CliError, ExitCode
from services.cli.output import OutputFormat, OutputOption, emit, err, rows


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "inbox", "Events that services received; dead ones wait for a person.")
    commands.command("list")(list_inbox)
    commands.command("requeue")(requeue)


def list_inbox(
    service: Annotated[str | None, typer.Option("--service", "-s", help="Only of this one; all by default.")] = None,
    status: Annotated[str, typer.Option(help="dead, pending or done.")] = "dead",
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List events in the services' inboxes, oldest first."""
    items: list[Json] = []
    silent: CliError | None = None
    for name in [_known(service)] if service else INBOX_SERVICES:
        try:
            with Service(name) as client:
                answer = client.get("inbox", status=status, limit=limit)
        except CliError as error:
            if service or error.code != ExitCode.UNREACHABLE:
                raise
            silent = error
            err().print(Text(f"warning: {error}"), soft_wrap=True)
            continue
        items += [{"service": name, **item} for item in answer["items"]]
    emit({"items": items}, output, lambda value: views.inbox(value, status, now()))
    if silent is not None:
        raise CliError("the list is not complete, because a service does not answer", ExitCode.UNREACHABLE)


def requeue(
    service: Annotated[str, typer.Argument(help="The service whose inbox it is in, such as registry.")],
    seq: Annotated[int, typer.Argument(help="The event's SEQ in `tuneloop inbox`.")],
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Let a dead event be handled again, now, with fresh attempts."""
    with Service(_known(service)) as client:
        answer = {"service": service, **client.post("inbox", str(seq), "requeue", body={})}
    emit(answer, output, lambda item: rows([item], {
        "SERVICE": lambda i: i["service"], "SEQ": lambda i: str(i["seq"]), "STATUS": lambda i: i["status"],
    }, empty=""))


def _known(service: str) -> str:
    name = service.replace("-", "_")
    if name not in INBOX_SERVICES:
        raise CliError(f"no service {service!r} with an inbox; use one of {', '.join(INBOX_SERVICES)}", ExitCode.USAGE)
    return name
