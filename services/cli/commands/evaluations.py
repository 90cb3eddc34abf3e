"""`tuneloop evaluations`."""

from typing import Annotated

import typer

from services.cli import views
from services.cli.client import Service
from services.cli.commands.common import LimitOption, PipelineFilter, group, now
from services.cli.endpoints import RegistryUrl
from services.cli.output import OutputFormat, OutputOption, emit


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "evaluations", "What was measured, and what the gates said.")
    commands.command("list")(list_evaluations)
    commands.command("get")(get_evaluation)


def list_evaluations(
    pipeline: PipelineFilter = None,
    state: Annotated[str | None, typer.Option(help="Only passed, refused or failed ones.")] = None,
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """List evaluations, newest first."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("evaluations", pipeline=pipeline, state=state, limit=limit)
    emit(answer, output, lambda value: views.evaluations(value, now()))


def get_evaluation(
    evaluation: Annotated[str, typer.Argument(help="Id of the evaluation.")],
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """Show an evaluation: each model's metrics on each set of rows, and each gate with what it saw."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("evaluations", evaluation)
    emit(answer, output, views.evaluation)
