"""Watching: a line per change where nobody looks at a terminal, patience with a service that restarts."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from services.cli.errors import CliError, ExitCode
from services.cli.watch import PATIENCE_SECONDS, watch
from shared.clock import VirtualClock

SILENT = CliError("the rollout service does not answer", ExitCode.UNREACHABLE)


def answers(*items: Any) -> Callable[[], dict[str, Any]]:
    """The items one after another, the last one forever; exceptions are raised."""
    rest: Iterator[Any] = iter(items)
    last: list[Any] = []

    def fetch() -> dict[str, Any]:
        item = next(rest, last[0] if last else None)
        last[:] = [item]
        if isinstance(item, Exception):
            raise item
        return {"state": item}

    return fetch


def seen(
    fetch: Callable[[], dict[str, Any]], *, terminal: bool = False, exists: bool = False
) -> tuple[dict[str, Any], str]:
    screen = io.StringIO()
    end = watch(fetch, view=lambda item: Text(f"view of {item['state']}"), line=lambda item: str(item["state"]),
                done=lambda item: item["state"] == "done", clock=VirtualClock(),
                exists=exists, console=Console(file=screen, force_terminal=terminal, width=80))
    return dict(end), screen.getvalue()


def test_a_line_per_change() -> None:
    end, screen = seen(answers("waiting", "waiting", "waiting", "going", "done"))
    assert end == {"state": "done"}
    assert screen.splitlines() == ["waiting", "going", "done"]


def test_a_live_view_in_a_terminal() -> None:
    _, screen = seen(answers("going", "done"), terminal=True)
    assert "view of going" in screen
    assert "view of done" in screen


def test_a_service_that_restarts_is_waited_for() -> None:
    _, screen = seen(answers("going", SILENT, SILENT, "done"))
    assert screen.splitlines() == ["going", f"no answer, trying again: {SILENT}", "done"]


def test_a_service_that_is_known_to_exist_may_be_restarting_at_first() -> None:
    end, _ = seen(answers(SILENT, "done"), exists=True)
    assert end == {"state": "done"}
    with pytest.raises(CliError, match="there is no run"):
        seen(answers(CliError("there is no run 'x'", ExitCode.NOT_FOUND)), exists=True)


def test_a_service_that_stays_away_is_given_up() -> None:
    clock = VirtualClock()
    start = clock.now()
    with pytest.raises(CliError, match="does not answer"):
        watch(answers("going", SILENT), view=lambda _: "", line=lambda _: "", done=lambda _: False, clock=clock,
              console=Console(file=io.StringIO()))
    assert PATIENCE_SECONDS <= (clock.now() - start).total_seconds() <= PATIENCE_SECONDS + 5


@pytest.mark.parametrize("error", [SILENT, CliError("there is no run 'x'", ExitCode.NOT_FOUND)])
def test_what_fails_at_once_is_said_at_once(error: CliError) -> None:
    with pytest.raises(CliError, match=str(error)):
        seen(answers(error))


def test_anything_but_silence_ends_the_watch() -> None:
    with pytest.raises(CliError, match="gone"):
        seen(answers("going", CliError("gone", ExitCode.NOT_FOUND)))
