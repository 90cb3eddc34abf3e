"""`tuneloop teach`: have a teacher answer questions, as rows for a student."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from services.cli.errors import CliError
from services.cli.output import err
from services.cli.teaching import Rule, Teacher, questions
from shared.clock import SystemClock


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(teach)


def teach(
    file: Annotated[Path, typer.Argument(
        exists=True, dir_okay=False, readable=True, help="Questions, one JSON a line; answers in it are left out.",
    )],
    *,
    teacher: Annotated[str, typer.Option(
        "--teacher", "-t", metavar="URL", help="A server with OpenAI's chat API, such as http://localhost:8000/v1.",
    )],
    model: Annotated[str, typer.Option("--model", "-m", help="The model to ask there; of ours, a route.")],
    key: Annotated[str | None, typer.Option(
        "--key", envvar="TUNELOOP_TEACHER_KEY", show_default=False, help="Sent as a bearer token.",
    )] = None,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 takes the likeliest answer.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longer answers are left out, and never cut.")] = 512,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers, where the server obeys it.")] = 17,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Questions that are asked at once.")] = 4,
    skip: Annotated[int, typer.Option(min=0, help="Rows of the file that were answered before.")] = 0,
) -> None:
    """Write rows to train on, as JSON lines, with a teacher's answers to the questions. For `tuneloop publish`.

    Each row says which teacher answered it, and the dataset's report counts them.
    """
    rule = Rule(model=model, temperature=temperature, max_tokens=max_tokens, seed=seed)
    written = left_out = 0
    with file.open(encoding="utf-8") as lines, Teacher(teacher, rule, SystemClock(), key=key) as asked:
        wanted = (question for question in questions(lines, source=str(file)) if question.number > skip)
        for _, row in asked.teach(wanted, concurrency):
            if row is None:
                left_out += 1
                continue
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    if not written:
        raise CliError(f"no question of {file} was answered to its end: {left_out} answers were empty or longer than "
                       f"{max_tokens} tokens; raise --max-tokens")
    err().print(Text(f"{written} rows; {left_out} answers were empty or longer than {max_tokens} tokens"))
