"""`tuneloop rollouts`: watch a canary, and take its wheel."""

import getpass
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from services.cli import rollout_views
from services.cli.client import Json, Service
from services.cli.commands import rollout_plan, rollout_report
from services.cli.commands.common import LimitOption, PipelineFilter, WatchOption, group, now
from services.cli.endpoints import RolloutUrl
from services.cli.errors import CliError, ExitCode
from services.cli.output import OutputFormat, OutputOption, emit, err
from services.cli.watch import watch as watch_until

RolloutArgument = Annotated[str, typer.Argument(help="Id of the rollout.")]
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept with the decision.")]
NeededReason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept with the decision.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "rollouts", "Rollouts: how model versions get traffic, and what stops them.")
    commands.command("list")(list_rollouts)
    commands.command("get")(get_rollout)
    commands.command("decisions")(get_decisions)
    commands.command("plan")(rollout_plan.plan)
    commands.command("report")(rollout_report.report)
    for function in (pause, resume, promote, abort, retry, undo):
        commands.command()(function)


def list_rollouts(
    pipeline: PipelineFilter = None,
    route: Annotated[str | None, typer.Option(help="Only of this route.")] = None,
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """List rollouts, newest first."""
    with Service("rollout", rollout_url) as service:
        answer = service.get("rollouts", pipeline=pipeline, route=route, limit=limit)
    emit(answer, output, lambda value: rollout_views.rollouts(value, now()))


def get_rollout(
    rollout: RolloutArgument,
    watch: WatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """Show a rollout with each guardrail's counts and e-values.

    With -w, until it ends; the exit code is 5 unless it was promoted.
    """
    with Service("rollout", rollout_url) as service:
        answer = watch_until(
            lambda: service.get("rollouts", rollout), view=_view, line=rollout_views.rollout_line,
            done=lambda item: item["phase"] in rollout_views.FINAL,
        ) if watch else service.get("rollouts", rollout)
    emit(answer, output, _view)
    if watch and answer["phase"] != "promoted":
        raise CliError(f"rollout {rollout} ended as {answer['phase']}: {answer['reason']}", ExitCode.ENDED_BADLY)


def get_decisions(
    rollout: RolloutArgument,
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """List a rollout's decisions, newest first, each with the counts and e-values that it rested on."""
    with Service("rollout", rollout_url) as service:
        answer = service.get("rollouts", rollout, "decisions", limit=limit)
    emit(answer, output, rollout_views.decisions)


def pause(
    rollout: RolloutArgument,
    reason: ReasonOption = "",
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """Hold a rollout at its weight. Guardrails still roll it back."""
    _act(rollout, "pause", reason, output, rollout_url)


def resume(
    rollout: RolloutArgument,
    reason: ReasonOption = "",
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """Let a paused rollout go on."""
    _act(rollout, "resume", reason, output, rollout_url)


def promote(
    rollout: RolloutArgument,
    full: Annotated[bool, typer.Option("--full", help="Skip the remaining steps and all analysis.")] = False,
    reason: ReasonOption = "",
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """Go to the next step now, whatever the evidence says; a paused rollout goes on.

    With --full the candidate gets all traffic now: no further analysis, no further steps.
    """
    _act(rollout, "promote", reason, output, rollout_url, full=full)


def abort(
    rollout: RolloutArgument,
    reason: NeededReason,
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """Take all traffic from the candidate now."""
    _act(rollout, "abort", reason, output, rollout_url)


def retry(
    rollout: RolloutArgument,
    reason: ReasonOption = "",
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """Try a version again whose rollout was rolled back or superseded; makes a new rollout from the first step."""
    with Service("rollout", rollout_url) as service:
        answer = service.post("rollouts", rollout, "retry", body=_asked(reason))
    _began(answer, f"{answer['model_version']} is tried again", output)


def undo(
    route: Annotated[str, typer.Argument(help="Name of the route.")],
    to: Annotated[str | None, typer.Option(
        "--to", metavar="MODEL_VERSION", show_default=False,
        help="The version to go back to. By default the one that was stable before the present one.",
    )] = None,
    reason: ReasonOption = "",
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """Take a route back to an earlier stable version, and supersede what is in flight on it.

    Inside the pipeline's rollbackWindow it gets all traffic as soon as it is loaded; else it goes through all steps.
    """
    with Service("rollout", rollout_url) as service:
        answer = service.post("routes", route, "undo", body={**_asked(reason), "to": to})
    _began(answer, f"{route} goes back to {answer['model_version']}", output)


def _asked(reason: str) -> Json:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = ""
    return {"reason": reason, "by": name}


def _began(item: Json, what: str, output: OutputFormat) -> None:
    err().print(Text(f"{what}; `tuneloop rollouts get {item['id']} -w` shows how"), soft_wrap=True)
    if output is not OutputFormat.TABLE:
        emit(item, output)


def _act(
    rollout: str, action: str, reason: str, output: OutputFormat, rollout_url: str | None, **more: bool
) -> None:
    with Service("rollout", rollout_url) as service:
        answer = service.post("rollouts", rollout, action, body={**_asked(reason), **more})
    err().print(Text(f"asked the controller to {action} {rollout}, which is {answer['phase']}; "
                     f"`tuneloop rollouts get {rollout} -w` shows what follows"), soft_wrap=True)
    if output is not OutputFormat.TABLE:
        emit(answer, output)


def _view(item: Json) -> RenderableType:
    return rollout_views.rollout(item, now())
