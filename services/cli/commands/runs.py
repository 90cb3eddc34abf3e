"""`tuneloop runs`."""

from typing import Annotated

import typer

from services.cli import views
from services.cli.client import Json, Service
from services.cli.commands.common import LimitOption, PipelineFilter, WatchOption, group, now
from services.cli.endpoints import RegistryUrl, TrainerUrl
from services.cli.errors import CliError, ExitCode
from services.cli.output import OutputFormat, OutputOption, emit
from services.cli.watch import watch as watch_until

ACTIVE = ("pending", "running")
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept with the run.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "runs", "Training runs.")
    commands.command("list")(list_runs)
    commands.command("get")(get_run)
    commands.command("checklist")(show_checklist)
    commands.command("cancel")(cancel_run)
    commands.command("retry")(retry_run)


def list_runs(
    *,
    pipeline: PipelineFilter = None,
    state: Annotated[str | None, typer.Option(help="Only running, completed or failed ones.")] = None,
    watch: WatchOption = False,
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """List runs, newest first. With -w, until none of them is running."""
    with Service("registry", registry_url) as registry:
        def fetch() -> Json:
            return registry.get("runs", pipeline=pipeline, state=state, limit=limit)

        answer = watch_until(
            fetch, view=lambda value: views.runs(value, now()), line=views.runs_line,
            done=lambda value: all(item["state"] not in ACTIVE for item in value["items"]),
        ) if watch else fetch()
    emit(answer, output, lambda value: views.runs(value, now()))


def get_run(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    watch: WatchOption = False,
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """Show a run. With -w, until it ends; the exit code is 5 if it failed."""
    with Service("registry", registry_url) as registry:
        answer = watch_until(
            lambda: registry.get("runs", run), view=lambda item: views.run_live(item, now()), line=views.run_line,
            done=lambda item: item["state"] not in ACTIVE,
        ) if watch else registry.get("runs", run)
    emit(answer, output, lambda item: views.run(item, now()))
    if watch and answer["state"] == "failed":
        raise CliError(f"run {run} failed: {answer['reason']}", ExitCode.ENDED_BADLY)


def show_checklist(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    output: OutputOption = OutputFormat.TABLE,
    registry_url: RegistryUrl = None,
) -> None:
    """Show what should be checked before, during and after a training, and what is recorded of it for this run.

    Each check passed or failed with its numbers, makes no sense for the run, or was not run, with why.
    """
    with Service("registry", registry_url) as registry:
        answer = registry.get("runs", run, "checklist")
    emit(answer, output, views.checklist)


def cancel_run(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    reason: ReasonOption,
    output: OutputOption = OutputFormat.TABLE,
    trainer_url: TrainerUrl = None,
) -> None:
    """End a run that goes on or waits. Its checkpoints stay, so that `retry` can take it up again."""
    _ask("cancel", run, reason, output, trainer_url)


def retry_run(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    reason: ReasonOption,
    output: OutputOption = OutputFormat.TABLE,
    trainer_url: TrainerUrl = None,
) -> None:
    """Let a run that failed or was cancelled go on from its newest checkpoint, with its attempts and limits anew."""
    _ask("retry", run, reason, output, trainer_url)


def _ask(action: str, run: str, reason: str, output: OutputFormat, trainer_url: str | None) -> None:
    with Service("trainer", trainer_url) as trainer:
        answer = trainer.post("runs", run, action, body={"reason": reason})
    emit(answer, output, views.trainer_run)
