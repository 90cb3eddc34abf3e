"""`tuneloop demo`."""

import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.rule import Rule

from services.cli import views
from services.cli.commands.rollout_report import write
from services.cli.demo import report
from services.cli.demo.story import Chapter, Setting, Story
from services.cli.local import control
from services.cli.local.home import Home
from services.cli.local.plan import Options
from services.cli.local.supervisor import Request

LOG_WIDTH = 110
_PIPELINES = Path(__file__).parent / "pipelines"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(demo)


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="A tiny model: three minutes instead of ten.")] = False,
    vllm: Annotated[bool, typer.Option("--vllm", help="With vLLM as the model server.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running at the end.")] = False,
) -> None:
    """See the whole loop for real: one dataset promoted, one stopped by its gate, one rolled back."""
    # A log has no width of its own; its tables shall fit a page.
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    home = Home(Home.find().root / "demo")
    control.down(home)
    # Each demo is a new story; what an earlier one left would make its numbers hard to follow.
    shutil.rmtree(home.root, ignore_errors=True)
    began = time.monotonic()
    try:
        _tell(console, home, fast=fast, vllm=vllm, keep=keep)
        console.print(f"[green]done[/] in {time.monotonic() - began:.0f} s")
        if not keep and sys.stdin.isatty() and sys.stdout.isatty():
            # A terminal without a keyboard behind it ends the story as Enter does.
            with suppress(EOFError):
                console.input("[dim]The stack still runs, for you to look around. Press Enter to end it.[/] ")
    finally:
        if keep and control.is_up(home):
            console.print(f"The stack keeps running: export TUNELOOP_HOME={home.root}; end it with `tuneloop down`.")
        else:
            console.print("[dim]ending the stack[/]")
            control.down(home)


def setting(stack: Mapping[str, Any], folder: Path, *, fast: bool) -> Setting:
    """Where the story takes place: the stack of a `stack.json`, with datasets written to `folder`."""
    return Setting(
        urls={name: item["url"] for name, item in stack["services"].items()},
        pipeline_file=_PIPELINES / ("fast.yaml" if fast else "smollm2.yaml"),
        folder=folder, rows=360, rate=8.0 if fast else 5.0,
    )


def _tell(console: Console, home: Home, *, fast: bool, vllm: bool, keep: bool) -> None:
    base_model = "tiny" if fast else "smollm2-135m-instruct"
    server = f"{base_model} on vLLM" if vllm else f"base model {base_model}"
    console.print(Rule(f"The stack: Kafka protocol, S3, Prometheus and tuneloop's services, {server}"))
    options = Options(base_model=base_model, engine="vllm" if vllm else "small", fault_hooks=True)
    request = Request(options, parent=0 if keep else os.getpid())
    control.up(home, request, say=lambda text: console.print(f"[dim]{text}[/]") if text else None)
    stack = home.read_stack() or {}
    story = Story(setting(stack, home.root, fast=fast), say=console.print)
    story.apply()
    chapters: list[Chapter] = []
    for title, tell in (
        ("1  A dataset with right labels", story.good),
        ("2  A dataset with wrong labels", story.shifted),
        ("3  A dataset whose adapter fails in production", story.faulty),
    ):
        console.print(Rule(title))
        began = time.monotonic()
        chapters.append(tell())
        console.print(report.chapter(chapters[-1]))
        console.print(report.outcome(chapters[-1]), f"[dim]({time.monotonic() - began:.0f} s)[/]")
    console.print(Rule("The end"))
    console.print(report.summary(chapters))
    console.print("[dim]* on the held-out rows of what is in production[/]")
    drawn = home.root / "report.html"
    write(drawn, report.picture(chapters))
    console.print(f"Every decision, with its e-values against their thresholds as a picture: [bold]{drawn}[/]",
                  soft_wrap=True)
    if chapters[0].loop.model is not None:
        console.print("Lineage of what is in production:")
        console.print(views.lineage(story.lineage(chapters[0].loop.model["model_version"])))
    console.print("Look around while it runs:")
    console.print(report.urls(stack))
