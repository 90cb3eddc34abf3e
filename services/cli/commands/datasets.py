"""`tuneloop datasets`."""

from typing import Annotated

import typer

from services.cli import views
from services.cli.client import Service
from services.cli.commands.common import LimitOption, PipelineFilter, group, now
from services.cli.endpoints import RegistryUrl
from services.cli.output import OutputFormat, OutputOption, emit


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "datasets", "Published datasets and their prepared versions.")
    commands.command("list")(list_datasets)
    commands.command("get")(get_dataset)


def list_datasets(
    pipeline: PipelineFilter = None,
    state: Annotated[str | None, typer.Option(help="Only published, prepared or rejected ones.")] = None,
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """List datasets, newest first."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("datasets", pipeline=pipeline, state=state, limit=limit)
    emit(answer, output, lambda value: views.datasets(value, now()))


def get_dataset(
    dataset: Annotated[str, typer.Argument(help="Id of the dataset.")],
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """Show a dataset: where it came from, what was kept, what was rejected and why."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("datasets", dataset)
    emit(answer, output, views.dataset)
