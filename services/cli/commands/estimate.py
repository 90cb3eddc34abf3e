"""`tuneloop estimate`: memory and time of a training run before it runs."""

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from services.cli import estimate_views
from services.cli.client import Json, Service
from services.cli.endpoints import TrainerUrl
from services.cli.errors import CliError, ExitCode
from services.cli.output import OutputFormat, OutputOption, emit
from shared.errors import InvalidInputError
from shared.estimate import (
    EstimateRequest,
    HeldBy,
    Method,
    ModelShape,
    Optimizer,
    Precision,
    estimate,
    is_known,
    known_shape,
    shape_of,
)
from shared.recipe import Objective

CONFIG = "config.json"
M = TypeVar("M", bound=BaseModel)


ModelArgument = Annotated[str, typer.Argument(
    metavar="MODEL", help="A model's folder or config.json, a well-known model such as llama-3.1-8b, or a base model "
    "of the store.",
)]
GpuOption = Annotated[str | None, typer.Option("--gpu", help="The GPU to run on, such as rtx-4090, a100-80gb or h100.")]
MemoryOption = Annotated[float | None, typer.Option(
    "--memory-gb", min=0.1, help="Memory of a device that is not in the table, in 10^9 bytes.",
)]
TflopsOption = Annotated[float | None, typer.Option(
    "--tflops", min=0.001, help="Peak of such a device, in 10^12 operations per second.",
)]
PriceOption = Annotated[float | None, typer.Option(
    "--usd-per-hour", min=0, help="What one device costs; without it no cost is told.",
)]
UtilizationOption = Annotated[float | None, typer.Option(
    min=0.001, max=1, help="Share of the peak that is reached; 0.35 by default.",
)]
CountOption = Annotated[int, typer.Option("--gpus", min=1, help="Devices that share the rows.")]
FsdpOption = Annotated[bool, typer.Option("--fsdp", help="They share the model, too; for full training.")]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("estimate")(estimate_run)


def estimate_run(
    model: ModelArgument, *,
    method: Annotated[Method, typer.Option(help="How the weights are adapted.")] = "lora",
    objective: Annotated[Objective, typer.Option(help="What is learned.")] = "sft",
    teacher: Annotated[str | None, typer.Option(
        help="For distill: the teacher's folder or config.json, or a well-known model.",
    )] = None,
    reward_model: Annotated[str | None, typer.Option(
        help="For grpo, rloo and ppo: the reward model's folder or config.json, or a well-known model.",
    )] = None,
    answer_tokens: Annotated[int, typer.Option(
        min=1, help="For grpo, rloo and ppo: of the longest answer that is drawn, within the row's.",
    )] = 64,
    held_by: Annotated[HeldBy | None, typer.Option(help="What holds weights near their start.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of lora, dora and qlora.")] = 8,
    target: Annotated[list[str] | None, typer.Option(help="An adapted layer; all linear ones by default.")] = None,
    optimizer: Annotated[Optimizer, typer.Option(help="Whose states are kept.")] = "adamw",
    precision: Annotated[Precision | None, typer.Option(
        help="Of weights and arithmetic; by default the trainer's: on a GPU bfloat16, or mixed for full, qlora, ewc; "
        "float32 on a CPU.",
    )] = None,
    checkpointing: Annotated[bool | None, typer.Option(
        "--checkpointing/--no-checkpointing", help="Gradient checkpointing; by default on a GPU, where the method can.",
    )] = None,
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens of the longest row.")] = 512,
    micro_batch: Annotated[int, typer.Option(min=1, help="Rows at once on a device.")] = 8,
    accumulation: Annotated[int, typer.Option(min=1, help="Batches per step of the optimizer.")] = 1,
    full_logits: Annotated[bool, typer.Option("--full-logits", help="The loss keeps all logits at once.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="On a CPU, as the trainer works there.")] = False,
    gpu: GpuOption = None, gpus: CountOption = 1, fsdp: FsdpOption = False, memory_gb: MemoryOption = None,
    tflops: TflopsOption = None, utilization: UtilizationOption = None, usd_per_hour: PriceOption = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Training rows; for the time.")] = None,
    tokens_per_row: Annotated[float | None, typer.Option(min=1, help="Their mean; for the time.")] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the rows.")] = 1.0,
    fill: Annotated[float, typer.Option(min=0.01, max=1, help="Share of real tokens in a batch.")] = 1.0,
    output: OutputOption = OutputFormat.TABLE, trainer_url: TrainerUrl = None,
) -> None:
    """Say how much memory and time a run needs, on which GPU it fits, and what would make it fit.

    Everything follows from the model's config.json. Only a base model of the store needs a running trainer.
    The exit code is 1 where it does not fit on the device that was asked about. docs/advisor.md says what is counted.
    """
    hardware: dict[str, Any] = {
        "gpu": gpu, "count": gpus, "memory_gb": memory_gb, "tflops": tflops, "usd_per_hour": usd_per_hour,
    }
    body: dict[str, Any] = {
        "setup": {
            "method": method, "objective": objective, "held_by": held_by,
            "teacher_parameters": _parameters("--teacher", teacher),
            "reward_parameters": _parameters("--reward-model", reward_model), "answer_tokens": answer_tokens,
            "rank": rank,
            "target_modules": target or "all-linear", "optimizer": optimizer,
            "micro_batch": micro_batch, **({} if precision is None else {"precision": precision}),
            "sequence_length": sequence_length,
            "gradient_checkpointing": method != "prefix" and not cpu if checkpointing is None else checkpointing,
            "gradient_accumulation": accumulation, "loss": "full" if full_logits else "chunked",
            "device": "cpu" if cpu else "cuda", "shards": gpus if fsdp else 1,
        },
        "hardware": hardware | ({} if utilization is None else {"utilization": utilization}),
        "data": _data(rows, tokens_per_row, epochs, fill),
    }
    answer = ask(model, body, trainer_url)
    emit(answer, output, lambda value: estimate_views.estimate(value, model))
    if answer["fits"] is False:
        raise CliError(f"{model} does not fit", ExitCode.REFUSED)


def _parameters(option: str, model: str | None) -> int:
    """How many weights the model of an option has; 0 without one."""
    if model is None:
        return 0
    shape = local_shape(model)
    if shape is None:
        raise CliError(f"{option} {model}: give its folder or config.json, or a well-known model", ExitCode.USAGE)
    return shape.parameters


def _data(rows: int | None, tokens_per_row: float | None, epochs: float, fill: float) -> Json | None:
    if (rows is None) != (tokens_per_row is None):
        raise CliError("for the time give both --rows and --tokens-per-row", ExitCode.USAGE)
    return None if rows is None else {"rows": rows, "tokens_per_row": tokens_per_row, "epochs": epochs, "fill": fill}


def ask(model: str, body: Json, trainer_url: str | None) -> Json:
    """The estimate of a model: worked out here where its shape is known here, else by the trainer.

    Raises:
        CliError: the setup is impossible, or the model is unknown.
    """
    request = validated(EstimateRequest, body)
    shape = local_shape(model)
    if shape is not None:
        return estimate(shape, request).model_dump(mode="json")
    with Service("trainer", trainer_url) as trainer:
        return trainer.post("estimates", body={**body, "model": model})


def validated(kind: type[M], body: Json) -> M:
    """A request made of options.

    Raises:
        CliError: naming the options that make no sense.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise CliError("; ".join(_words(item) for item in error.errors()), ExitCode.USAGE) from error


def local_shape(model: str) -> ModelShape | None:
    """The shape of a model whose config.json is here or that is built in; None where only the store may know it."""
    config = local_config(model)
    if config is not None:
        return shape_of(config)
    return known_shape(model) if is_known(model) else None


def _words(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    return f"{place}: {str(item['msg']).removeprefix('Value error, ')}"


def local_config(model: str) -> Json | None:
    """The content of a ``config.json`` here; None where `model` is no path.

    Raises:
        CliError: it is one that cannot be read.
    """
    path = Path(model)
    if path.is_dir():
        path = path / CONFIG
    elif path.suffix != ".json":
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}", ExitCode.USAGE) from error
    except ValueError as error:
        raise InvalidInputError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"{path}: not a model's config.json: it is no object")
    return found
