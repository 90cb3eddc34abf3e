"""`tuneloop example`: rows to publish and users that ask, for a first look at an installation."""

import json
import sys
from typing import Annotated

import typer
from rich.text import Text

from services.cli.client import Json, Service
from services.cli.demo.data import Kind, make_rows
from services.cli.demo.traffic import Tally, Traffic
from services.cli.endpoints import GatewayUrl
from services.cli.errors import CliError, ExitCode
from services.cli.output import err
from services.cli.watch import watch

_QUESTIONS = 360
# Other questions than the rows have, as far as there are others.
_SEED = 11


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = typer.Typer(help="Rows and users for a first look at an installation.", no_args_is_help=True)
    app.add_typer(commands, name="example")
    commands.command("rows")(rows)
    commands.command("traffic")(traffic)


def rows(
    number: Annotated[int, typer.Option("--number", "-n", min=6, max=3000, help="How many rows.")] = 360,
    *,
    kind: Annotated[Kind, typer.Option(help="good has right labels; fresh others of the same kind; shifted wrong ones, "
                                            "consistently.")] = "good",
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = 1,
) -> None:
    """Write rows to train on, as JSON lines: questions to a shop's support, each with one of six intents.

    For `tuneloop publish`, with the pipeline in examples/first-canary.yaml.
    """
    sys.stdout.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in make_rows(kind, number, seed))


def traffic(
    route: Annotated[str, typer.Argument(help="The route, which has its pipeline's name.")] = "support-intents",
    *,
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="Requests per second, as long as it keeps up.")] = 1.0,
    users: Annotated[int, typer.Option(min=1, help="Users who take turns; each stays with the version it got.")] = 500,
    requests: Annotated[int | None, typer.Option(
        min=1, show_default=False, help="End after so many; by default at Ctrl-C.",
    )] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two lines of what users saw.")] = 10.0,
    key: Annotated[str | None, typer.Option(
        "--key", envvar="TUNELOOP_GATEWAY_KEY", show_default=False, help="An API key, where the gateway wants one.",
    )] = None,
    gateway_url: GatewayUrl = None,
) -> None:
    """Ask a route the example's questions as users would, and say what they saw of each version.

    It waits until the gateway has the route. A rollout needs traffic: without any there is nothing to decide on.
    """
    with Service("gateway", gateway_url, key) as gateway:
        url = gateway.url
        watch(
            lambda: gateway.get("models"), done=lambda answer: route in _routes(answer),
            view=lambda answer: Text(_waiting(route, answer)), line=lambda answer: _waiting(route, answer),
        )
    with Traffic(url, route, make_rows("fresh", _QUESTIONS, _SEED), rate=rate, users=users, key=key) as asked:
        while not asked.wait(every, requests):
            err().print(seen(asked.tally))
    err().print(seen(asked.tally))
    if asked.tally.requests.total() == asked.tally.failures.total():
        raise CliError(f"no request to the gateway at {url} was answered: {asked.tally.failure}", ExitCode.UNREACHABLE)


def _routes(answer: Json) -> list[str]:
    return [item["id"] for item in answer["data"]]


def _waiting(route: str, answer: Json) -> str:
    known = ", ".join(_routes(answer)) or "none"
    return f"asking for {route}; the gateway's routes: {known}"


def seen(tally: Tally) -> Text:
    """A line about what users saw so far."""
    versions = sorted(tally.requests)
    if not versions:
        return Text("no answer yet")
    parts = [_of_version(tally, version) for version in versions]
    return Text("; ".join([*parts, *([f"last failure: {tally.failure}"] if tally.failure else [])]))


def _of_version(tally: Tally, version: str) -> str:
    accuracy = tally.accuracy(version)
    right = "" if accuracy is None else f", {accuracy:.0%} right"
    return f"{version}: {tally.requests[version]} requests, {tally.failures[version]} failed{right}"

