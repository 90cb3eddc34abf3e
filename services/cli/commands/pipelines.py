"""`tuneloop pipelines`."""

from typing import Annotated

import typer

from services.cli import views
from services.cli.client import Service
from services.cli.commands.common import LimitOption, group, now
from services.cli.endpoints import RegistryUrl
from services.cli.output import OutputFormat, OutputOption, emit


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "pipelines", "Declared pipelines, and what each has in production.")
    commands.command("list")(list_pipelines)
    commands.command("get")(get_pipeline)


def list_pipelines(
    limit: LimitOption = 50, output: OutputOption = OutputFormat.TABLE, registry_url: RegistryUrl = None
) -> None:
    """List pipelines, newest first."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("pipelines", limit=limit)
    emit(answer, output, lambda value: views.pipelines(value, now()))


def get_pipeline(
    name: Annotated[str, typer.Argument(help="Name of the pipeline.")],
    version: Annotated[int | None, typer.Option(min=1, help="An older version of its spec.")] = None,
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """Show a pipeline and its whole spec, defaults included."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("pipelines", name, version=version)
    emit(answer, output, views.pipeline)
