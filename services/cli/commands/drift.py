"""`tuneloop drift`: does live traffic still look like what a model version was made for?"""

from typing import Annotated

import typer

from services.cli import drift_views
from services.cli.client import Service
from services.cli.commands.common import LimitOption, group, now
from services.cli.endpoints import DriftUrl
from services.cli.output import OutputFormat, OutputOption, emit

RouteArgument = Annotated[str, typer.Argument(help="Name of the route.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "drift", "Drift: does live traffic still look like what a model version was made for?")
    commands.command("list")(list_series)
    commands.command("get")(get_route)
    commands.command("alarms")(list_alarms)


def list_series(
    limit: LimitOption = 50, output: OutputOption = OutputFormat.TABLE, drift_url: DriftUrl = None,
) -> None:
    """List the model versions whose traffic is watched, the last sampled first."""
    with Service("drift", drift_url) as service:
        answer = service.get("drift", limit=limit)
    emit(answer, output, lambda value: drift_views.series(value, now()))


def get_route(
    route: RouteArgument,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=50, help="Of its model versions.")] = 1,
    output: OutputOption = OutputFormat.TABLE,
    drift_url: DriftUrl = None,
) -> None:
    """Show each feature of a route's traffic beside its reference, and the last alarm."""
    with Service("drift", drift_url) as service:
        answer = service.get("drift", route, limit=limit)
    emit(answer, output, lambda value: drift_views.route(route, value, now()))


def list_alarms(
    route: RouteArgument,
    limit: LimitOption = 20,
    output: OutputOption = OutputFormat.TABLE,
    drift_url: DriftUrl = None,
) -> None:
    """List a route's alarms, newest first. The examples' request ids are in the JSON output."""
    with Service("drift", drift_url) as service:
        answer = service.get("drift", route, "alarms", limit=limit)
    emit(answer, output, lambda value: drift_views.alarms(value, now()))
