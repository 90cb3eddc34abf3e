"""Watching something until it ends: a live view in a terminal, a line per change everywhere else."""

import threading
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from services.cli.client import Json
from services.cli.errors import CliError, ExitCode
from services.cli.output import err
from shared.clock import Clock, SystemClock

INTERVAL_SECONDS = 1.0
# A service that restarts is no reason to give up a watch of an hour.
PATIENCE_SECONDS = 60.0


def watch(
    fetch: Callable[[], Json],
    *,
    view: Callable[[Json], RenderableType],
    line: Callable[[Json], str],
    done: Callable[[Json], bool],
    clock: Clock | None = None,
    console: Console | None = None,
    exists: bool = False,
) -> Json:
    """Fetch every second until `done`, show what changed on stderr, and return the last answer.

    Args:
        exists: the service is known to be there, so that its first silence is a restart and not a wrong address.

    Raises:
        CliError: from `fetch`; where the service does not answer, only after a minute of that.
    """
    clock, console = clock or SystemClock(), console or err()
    if not console.is_terminal:
        return _until(fetch, done, clock, _printer(console, line), exists)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        return _until(
            fetch, done, clock, lambda item, note: live.update(_noted(view, item, note), refresh=True), exists
        )


def _until(
    fetch: Callable[[], Json], done: Callable[[Json], bool], clock: Clock, show: Callable[[Json | None, str], None],
    exists: bool,
) -> Json:
    item: Json | None = None
    silent_since = None
    never = threading.Event()
    while True:
        note = ""
        try:
            item = fetch()
            silent_since = None
        except CliError as error:
            silent_since = silent_since or clock.now()
            silent = (clock.now() - silent_since).total_seconds()
            restarting = error.code == ExitCode.UNREACHABLE and (exists or item is not None)
            if not restarting or silent > PATIENCE_SECONDS:
                raise
            note = f"no answer, trying again: {error}"
        show(item, note)
        if item is not None and not note and done(item):
            return item
        clock.wait(never, INTERVAL_SECONDS)


def _printer(console: Console, line: Callable[[Json], str]) -> Callable[[Json | None, str], None]:
    last = ""

    def show(item: Json | None, note: str) -> None:
        nonlocal last
        text = note or (line(item) if item is not None else "")
        if text != last:
            console.print(Text(text), soft_wrap=True)
        last = text

    return show


def _noted(view: Callable[[Json], RenderableType], item: Json | None, note: str) -> RenderableType:
    if note:
        return Text(note, style="yellow")
    return view(item) if item is not None else Text()
