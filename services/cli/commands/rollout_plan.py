"""`tuneloop rollouts plan`: what a policy will do, before it does it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import plan_views, planning
from services.cli.client import Json, Service
from services.cli.endpoints import RegistryUrl
from services.cli.errors import CliError, ExitCode
from services.cli.output import OutputFormat, OutputOption, emit
from shared.pipeline import ExpectedTraffic, PipelineSpec, RolloutPolicy, parse_pipeline

_SHARE = {"min": 0.0, "max": 1.0}
Source = Annotated[str, typer.Argument(metavar="FILE|NAME", help="A pipeline's YAML file, or an applied pipeline.")]
Rate = Annotated[float | None, typer.Option(
    min=0.001, help="Requests per minute of the route; by default what spec.rollout.expectedTraffic says.",
)]
StableRate = Annotated[list[str] | None, typer.Option(
    metavar="[GUARDRAIL=]SHARE", help="Stable's share of bad events, such as 0.01 or 'latency>2.5s=0.05'. "
    "By default what spec.rollout.expectedTraffic says, else 0.01.",
)]
GoodRate = Annotated[float | None, typer.Option(**_SHARE, help="A good candidate's share; stable's by default.")]
BadRate = Annotated[float | None, typer.Option(
    **_SHARE, help="A bad candidate's share; by default ten times stable's, and at least twice the tolerable rate.",
)]
Guardrail = Annotated[str | None, typer.Option(
    help="On which guardrail the candidates differ from stable; the first by default.",
)]
Users = Annotated[int | None, typer.Option(min=1, help="Distinct users, to tell how many meet the candidate.")]
Runs = Annotated[int, typer.Option(min=1, max=100_000, help="Rollouts to simulate per candidate; more take longer.")]
Seed = Annotated[int, typer.Option(min=0, help="Another seed gives other chances.")]


def plan(
    source: Source, *, rate: Rate = None, stable_rate: StableRate = None, good_rate: GoodRate = None,
    bad_rate: BadRate = None, guardrail: Guardrail = None, users: Users = None, runs: Runs = 200, seed: Seed = 1,
    output: OutputOption = OutputFormat.TABLE, registry_url: RegistryUrl = None,
) -> None:
    """Say what a policy will do: how likely and how soon it promotes a good candidate and rolls back a bad one.

    It simulates rollouts with the controller's own code, for requests that arrive and fail independently. A file
    needs no running service.
    """
    policy = _policy(source, registry_url)
    traffic = _traffic(policy, source, rate, stable_rate or [], users)
    candidates = [
        {"name": "good", "bad_rate": good_rate, "guardrail": guardrail},
        {"name": "bad", "bad_rate": bad_rate, "guardrail": guardrail},
    ]
    answer = planning.ask(planning.question(policy, traffic, candidates, runs=runs, seed=seed))
    emit(answer, output, lambda value: plan_views.plan(value, policy, source))


def _policy(source: str, registry_url: str | None) -> RolloutPolicy:
    path = Path(source)
    if path.is_file():
        return parse_pipeline(path.read_text(encoding="utf-8"), source=source).spec.rollout
    if path.suffix in (".yaml", ".yml") or "/" in source:
        raise CliError(f"{source}: no such file", ExitCode.USAGE)
    with Service("registry", registry_url) as registry:
        return PipelineSpec.model_validate(registry.get("pipelines", source)["spec"]).rollout


def _traffic(
    policy: RolloutPolicy, source: str, rate: float | None, stable: Sequence[str], users: int | None
) -> Json:
    expected = policy.expected_traffic
    if rate is None and expected is None:
        raise CliError(f"{source} does not say how much traffic its route gets: give --rate (requests per minute), or "
                       "write spec.rollout.expectedTraffic", ExitCode.USAGE)
    said = ExpectedTraffic(requests_per_minute=rate) if expected is None else expected
    traffic: dict[str, Any] = {**planning.traffic_of(said), "users": users}
    if rate is not None:
        traffic["requests_per_minute"] = rate
    for text in stable:
        name, _, share = text.rpartition("=")
        if name:
            traffic["bad_rates"][name] = _share(share, text)
        else:
            traffic["bad_rate"] = _share(share, text)
    return traffic


def _share(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise CliError(f"--stable-rate: {option!r} is not a share or GUARDRAIL=SHARE", ExitCode.USAGE) from error
    if not 0 <= value <= 1:
        raise CliError(f"--stable-rate: {option!r} is not between 0 and 1", ExitCode.USAGE)
    return value
