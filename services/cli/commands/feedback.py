"""`tuneloop feedback`: what people thought of answers, for review and as rows of the next dataset."""

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from services.cli.commands.common import LimitOption, group
from services.cli.errors import CliError
from services.cli.feedback import Collected, Judged, dataset_rows
from services.cli.output import OutputFormat, OutputOption, emit, err, rows
from services.cli.topics import KafkaOption, bootstrap, read_all
from shared.events import Topic

RouteFilter = Annotated[str | None, typer.Option("--route", "-r", help="Only of this route.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1, help="Seconds in which Kafka must have been read.")]
_WIDTH = 60


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = group(app, "feedback", "What people thought of answers: for review, and for the next dataset.")
    commands.command("list")(list_feedback)
    commands.command("export")(export)


def list_feedback(
    *,
    route: RouteFilter = None,
    bad: Annotated[bool, typer.Option("--bad", help="Only answers that were disliked and have no correction.")] = False,
    limit: LimitOption = 50,
    kafka: KafkaOption = None,
    timeout: TimeoutOption = 60,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List judged answers, those judged last first. What was said is there where the request was sampled."""
    found = _read(kafka, timeout).judged(route)
    wanted = [one for one in found if not bad or (one.score < 0 and not one.correction)][:limit]
    emit({"items": [_json(one) for one in wanted]}, output, lambda value: _table(value["items"]))


def export(
    route: Annotated[str, typer.Argument(help="The route, which has its pipeline's name.")],
    min_score: Annotated[float, typer.Option(
        "--min-score", min=-1, max=1, help="Answers without a correction are taken from this score on.",
    )] = 0.5,
    kafka: KafkaOption = None,
    timeout: TimeoutOption = 60,
) -> None:
    """Write rows to train on, as JSON lines: corrections, and answers that were liked. For `tuneloop publish`."""
    judged = _read(kafka, timeout).judged(route)
    written = list(dataset_rows(judged, min_score=min_score))
    unsampled = sum(1 for one in judged if one.sample is None)
    if not written:
        raise CliError(
            f"no judged answer of {route!r} makes a row: {len(judged)} were judged, of which {unsampled} were not "
            "sampled (spec.capture.share says how many requests are)"
        )
    sys.stdout.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in written)
    err().print(Text(f"{len(written)} rows of {len(judged)} judged answers; {unsampled} were not sampled"))


def _read(kafka: str | None, timeout: float) -> Collected:
    collected = Collected()
    read_all(bootstrap(kafka), [Topic.SAMPLES.value, Topic.FEEDBACK.value], collected.take, seconds=timeout)
    return collected


def _json(one: Judged) -> dict[str, Any]:
    return {**asdict(one), "sample": one.sample.model_dump(mode="json") if one.sample is not None else None}


def _table(items: list[dict[str, Any]]) -> RenderableType:
    return rows(items, {
        "REQUEST": lambda i: i["request_id"],
        "MODEL VERSION": lambda i: i["model_version"],
        "SCORE": lambda i: f"{i['score']:+.2f}",
        "ASKED": lambda i: _short(i["sample"]["messages"][-1]["content"]) if i["sample"] else "(not sampled)",
        "ANSWERED": lambda i: _short(i["sample"]["answer"]) if i["sample"] else "",
        "CORRECTION": lambda i: _short(i["correction"]),
        "COMMENT": lambda i: _short("; ".join(i["comments"])),
    }, empty="nobody has judged an answer yet; POST /v1/feedback at the gateway does")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
