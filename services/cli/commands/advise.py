"""`tuneloop advise`: what to do for a use case, and with which recipe."""

from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import advice_views
from services.cli.client import Json, Service
from services.cli.commands.estimate import (
    CountOption,
    GpuOption,
    MemoryOption,
    PriceOption,
    TflopsOption,
    local_shape,
    validated,
)
from services.cli.endpoints import TrainerUrl
from services.cli.errors import CliError
from services.cli.output import OutputFormat, OutputOption, emit
from shared.advice import AdviceRequest, UseCase, advise, parse_use_case

Profile = Annotated[Path | None, typer.Argument(
    exists=True, dir_okay=False, readable=True, help="The use case in YAML; options replace its keys.",
)]
ModelOption = Annotated[str | None, typer.Option(
    "--model", "-m", help="The base model: a folder or config.json, a well-known name, or one of the store.",
)]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("advise")(advise_use_case)


def advise_use_case(
    profile: Profile = None, *, model: ModelOption = None,
    examples: Annotated[int | None, typer.Option(min=0, help="Prompts with the right answer that you have.")] = None,
    complexity: Annotated[str | None, typer.Option(help="simple, moderate or complex.")] = None,
    knowledge: Annotated[str | None, typer.Option(
        help="Answers need facts that the base model has not, which are static, or change monthly, weekly or daily.",
    )] = None,
    citations: Annotated[bool, typer.Option("--citations", help="Answers must say where they come from.")] = False,
    one_format: Annotated[bool, typer.Option("--format", help="Answers must have one format.")] = False,
    one_tone: Annotated[bool, typer.Option("--tone", help="Answers must have one tone.")] = False,
    prompting_score: Annotated[float | None, typer.Option(
        min=0, max=1, help="What the best prompt reached on your test rows.",
    )] = None,
    latency_ms: Annotated[float | None, typer.Option(min=1, help="The longest acceptable time to an answer.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="USD a month, for training and answering.")] = None,
    tokens_per_row: Annotated[float, typer.Option(min=1, help="Mean of prompt and answer.")] = 200.0,
    answer_tokens: Annotated[float, typer.Option(min=1, help="Mean of the answer.")] = 50.0,
    longest_row: Annotated[int, typer.Option(min=8, help="Tokens of the longest row.")] = 512,
    gpu: GpuOption = None, gpus: CountOption = 1, memory_gb: MemoryOption = None, tflops: TflopsOption = None,
    usd_per_hour: PriceOption = None,
    output: OutputOption = OutputFormat.TABLE, trainer_url: TrainerUrl = None,
) -> None:
    """Say whether to prompt, to retrieve, to fine-tune or both, why, for how much, and with which recipe.

    Each rule names its source. With --model there is a recipe too, and an estimate of what it takes; without it the
    approach alone. docs/advisor.md has every key of the use case and every rule.
    """
    given: dict[str, Any] = {
        "examples": examples, "complexity": complexity, "needs_citations": citations or None,
        "needs_format": one_format or None, "needs_tone": one_tone or None, "prompting_score": prompting_score,
        "latency_ms": latency_ms, "budget_monthly_usd": budget,
        "needs_knowledge": True if knowledge else None, "knowledge_updates": knowledge,
    }
    case = _case(profile, {key: value for key, value in given.items() if value is not None}, usd_per_hour)
    rows = case["examples"]
    body: Json = {
        "use_case": case, "model": model,
        "data": {"rows": rows, "tokens_per_row": tokens_per_row, "answer_tokens": answer_tokens,
                 "longest_row": longest_row} if rows else None,
        "hardware": {"gpu": gpu, "count": gpus, "memory_gb": memory_gb, "tflops": tflops,
                     "usd_per_hour": usd_per_hour},
    }
    emit(_ask(model, body, trainer_url), output, advice_views.advice)


def _case(profile: Path | None, given: dict[str, Any], usd_per_hour: float | None) -> Json:
    """The profile's keys with the options' in their place."""
    case = UseCase()
    if profile is not None:
        try:
            case = parse_use_case(profile.read_text(encoding="utf-8"), source=str(profile))
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"{profile}: cannot be read: {error}") from error
    body = case.model_dump(by_alias=False) | given
    if usd_per_hour is not None:
        body["prices"] = {**body["prices"], "gpu_hour_usd": usd_per_hour}
    return validated(UseCase, body).model_dump(mode="json")


def _ask(model: str | None, body: Json, trainer_url: str | None) -> Json:
    request = validated(AdviceRequest, body)
    shape = local_shape(model) if model else None
    if model is None or shape is not None:
        return advise(request, shape).model_dump(mode="json")
    with Service("trainer", trainer_url) as trainer:
        return trainer.post("advice", body=body)
