"""`tuneloop models`."""

from typing import Annotated

import typer

from services.cli import views
from services.cli.client import Service
from services.cli.commands.common import LimitOption, PipelineFilter, group, now
from services.cli.endpoints import RegistryUrl
from services.cli.output import OutputFormat, OutputOption, emit

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL_VERSION", help="For example support-intents@3.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "models", "Model versions: adapters that passed their gates.")
    commands.command("list")(list_models)
    commands.command("get")(get_model)
    commands.command("lineage")(get_lineage)


def list_models(
    pipeline: PipelineFilter = None,
    stage: Annotated[str | None, typer.Option(help="Only candidate, production, archived or rolled_back ones.")] = None,
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """List model versions, newest first."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("models", pipeline=pipeline, stage=stage, limit=limit)
    emit(answer, output, lambda value: views.models(value, now()))


def get_model(
    model: ModelArgument, output: OutputOption = OutputFormat.TABLE, registry_url: RegistryUrl = None
) -> None:
    """Show a model version."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("models", model)
    emit(answer, output, views.model)


def get_lineage(
    model: ModelArgument, output: OutputOption = OutputFormat.TABLE, registry_url: RegistryUrl = None
) -> None:
    """Show where a model version comes from: weights, evaluation, run, pipeline, dataset and source, with digests."""
    with Service("registry", registry_url) as registry:
        answer = registry.get("models", model, "lineage")
    emit(answer, output, views.lineage)
