"""`tuneloop train`: looking at a training before it runs."""

import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import preview_views, workers
from services.cli.client import Json, Service
from services.cli.endpoints import RegistryUrl, s3_environment
from services.cli.errors import CliError, ExitCode
from services.cli.output import OutputFormat, OutputOption, emit, err
from shared.pipeline import PipelineSpec, parse_pipeline
from shared.recipe import Objective, TrainingRecipe

_SECONDS = 120.0
_HINT = "give a file with fewer rows by --file"


class Split(StrEnum):
    """What is trained on, and what is validated on."""

    TRAIN = "train"
    VALIDATION = "validation"


SourceArgument = Annotated[str | None, typer.Argument(
    metavar="[FILE|NAME]",
    help="A pipeline's YAML file, or an applied pipeline, whose newest dataset version is shown.",
)]
FileOption = Annotated[Path | None, typer.Option(
    "--file", exists=True, dir_okay=False, help="Rows as for `tuneloop publish`, instead of a dataset version's.",
)]
BaseOption = Annotated[str | None, typer.Option(
    "--base", help="A base model's folder, or its name in the store; the pipeline's by default.",
)]
ObjectiveOption = Annotated[Objective | None, typer.Option(help="Without a pipeline: what the rows are for.")]
LengthOption = Annotated[int | None, typer.Option(
    "--max-length", min=8, help="Tokens; by default training.maxLength.",
)]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = typer.Typer(help="Look at a training before it runs.", no_args_is_help=True)
    app.add_typer(commands, name="train")
    commands.callback()(lambda: None)
    commands.command("preview")(preview)


@dataclass(frozen=True)
class _Subject:
    """What is to be trained, and on which dataset version, if one is known."""

    base: str | None
    recipe: TrainingRecipe
    dataset: str | None = None


def preview(
    source: SourceArgument = None, *, file: FileOption = None, base: BaseOption = None,
    objective: ObjectiveOption = None, max_length: LengthOption = None,
    split: Annotated[Split, typer.Option(help="Of the dataset version.")] = Split.TRAIN,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, max=1000, help="Show so many; all are counted.")] = 3,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show where one token ends and the next begins.")] = False,
    output: OutputOption = OutputFormat.TABLE, registry_url: RegistryUrl = None,
) -> None:
    """Show rows as the trainer tokenises them: what is trained, where an answer ends, what is cut or skipped.

    The exit code is 1 if a run on these rows would be refused. With a file of rows and a base model's folder it needs
    no running service.
    """
    subject = _subject(source, registry_url, need_rows=file is None)
    changes: dict[str, Any] = {"objective": objective, "max_length": max_length}
    if max_length is not None:
        changes["auto"] = [name for name in subject.recipe.auto if name != "maxLength"]
    recipe = subject.recipe.model_copy(update={key: value for key, value in changes.items() if value is not None})
    chosen = base or subject.base
    if chosen is None:
        raise CliError("give a pipeline, or a base model by --base", ExitCode.USAGE)
    with tempfile.TemporaryDirectory(prefix="tuneloop-preview-") as scratch:
        where = {"dataset": subject.dataset} if file is None else _converted(file, recipe.objective, Path(scratch))
        answer = workers.ask(
            "services.trainer.preview",
            {"recipe": recipe.model_dump(mode="json"), "split": split if file is None else "train", "shown": rows,
             **_base(chosen), **where},
            who="the preview, which uses the training job's code,", extra="training-job", timeout=_SECONDS, hint=_HINT,
            environment=s3_environment(),
        )
    emit(answer, output, lambda value: preview_views.preview(value, boundaries=tokens))
    if answer["refusal"]:
        raise CliError(f"a run on these rows would be refused: {answer['refusal']}")


def _subject(source: str | None, registry_url: str | None, *, need_rows: bool) -> _Subject:
    if source is None:
        if need_rows:
            raise CliError("give a pipeline, or rows by --file", ExitCode.USAGE)
        return _Subject(None, TrainingRecipe())
    path = Path(source)
    if path.is_file():
        if need_rows:
            raise CliError(f"{source} is not applied, so it has no dataset version: give rows by --file",
                           ExitCode.USAGE)
        spec = parse_pipeline(path.read_text(encoding="utf-8"), source=source).spec
        return _Subject(spec.base_model, spec.training)
    with Service("registry", registry_url) as registry:
        spec = PipelineSpec.model_validate(registry.get("pipelines", source)["spec"])
        dataset = _newest_dataset(registry, source) if need_rows else None
    return _Subject(spec.base_model, spec.training, dataset)


def _newest_dataset(registry: Service, pipeline: str) -> str:
    found = registry.get("datasets", pipeline=pipeline, state="prepared", limit=1)["items"]
    if not found:
        raise CliError(f"pipeline {pipeline} has no prepared dataset version yet: publish one, or give rows by --file",
                       ExitCode.NOT_FOUND)
    return str(found[0]["artifact_uri"])


def _base(chosen: str) -> Json:
    folder = Path(chosen)
    return {"base_folder": str(folder.resolve())} if folder.is_dir() else {"base_model": chosen}


def _converted(file: Path, objective: Objective, folder: Path) -> Json:
    """The file's rows as a dataset version would have them."""
    found = workers.ask(
        "services.data_ingest.convert", {"file": str(file.resolve()), "objective": objective}, str(folder),
        who="the reader of rows, which is data_ingest's,", extra="data-ingest", timeout=_SECONDS, hint=_HINT,
    )
    if found["bad"]:
        err().print(f"{found['bad']} rows are bad and left out: {'; '.join(found['problems'])}", soft_wrap=True,
                    markup=False)
    return {"rows_folder": str(folder)}
