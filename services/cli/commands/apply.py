"""`tuneloop apply`: create or change pipelines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from services.cli import plan_views, planning
from services.cli.client import Service
from services.cli.endpoints import RegistryUrl
from services.cli.errors import CliError
from services.cli.output import OutputFormat, OutputOption, emit, err, rows
from services.cli.words import short
from shared.pipeline import Pipeline, parse_pipeline

_YAML = {"content-type": "application/yaml"}
Files = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="Pipelines in YAML.")]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(apply)


def apply(files: Files, output: OutputOption = OutputFormat.TABLE, registry_url: RegistryUrl = None) -> None:
    """Create or change pipelines. All files are checked before the first is applied.

    A file that means the same as the pipeline's present version changes nothing. docs/pipeline.md lists every key.
    Where a good candidate would hardly be promoted by the deadline, at spec.rollout.expectedTraffic or else at 6000
    requests per minute, a warning says so with the numbers; `tuneloop rollouts plan` shows more.
    """
    texts = [_checked(path) for path in files]
    with Service("registry", registry_url) as registry:
        items = [
            {"file": str(path), **registry.send("pipelines", content=text, headers=_YAML)}
            for path, (text, _) in zip(files, texts, strict=True)
        ]
    for item, (_, pipeline) in zip(items, texts, strict=True):
        item["warnings"] = _warnings(pipeline, item["file"]) if item["changed"] else []
    emit({"items": items}, output, lambda answer: rows(answer["items"], {
        "FILE": lambda i: i["file"],
        "PIPELINE": lambda i: i["name"],
        "VERSION": lambda i: str(i["version"]),
        "DIGEST": lambda i: short(i["digest"]),
        "OUTCOME": _outcome,
    }, empty=""))


def _warnings(pipeline: Pipeline, file: str) -> list[str]:
    """What is allowed and yet will not work; said on stderr at once."""
    said = [*_whole_model(pipeline), *_deadline(pipeline, file)]
    for warning in said:
        err().print(Text.assemble(("warning: ", "bold yellow"), f"{file}: {warning}"), soft_wrap=True)
    return said


def _whole_model(pipeline: Pipeline) -> list[str]:
    """Model servers have adapters of one base; another whole model is another base."""
    if pipeline.spec.training.adapts:
        return []
    if pipeline.spec.training.kind == "reward-models":
        return ["what is trained is a reward model: it is evaluated and registered, and never rolled out; it scores "
                "answers while other models are trained"]
    return ["what is trained is a whole model: it is evaluated and registered, and no model server takes it as an "
            "adapter, so that its rollouts end at once; docs/training.md says how it is served"]


def _deadline(pipeline: Pipeline, file: str) -> list[str]:
    policy = pipeline.spec.rollout
    try:
        good = planning.doubt(policy)
    except CliError as error:
        err().print(Text(f"note: {file}: not checked whether its deadline can be met: {error}"), soft_wrap=True)
        return []
    if good is None:
        return []
    return [plan_views.shortfall(good, good["traffic"], policy)]


def _checked(path: Path) -> tuple[str, Pipeline]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CliError(f"{path}: not UTF-8: byte {error.start} cannot be read") from error
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}") from error
    return text, parse_pipeline(text, source=str(path))


def _outcome(item: Mapping[str, Any]) -> Text:
    if not item["changed"]:
        return Text("unchanged")
    return Text("created" if item["version"] == 1 else "changed", style="green")
