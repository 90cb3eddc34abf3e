"""The table on disk: whole, or set aside with a clear word; and the keeper that writes it."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.gateway.keeper import TableKeeper
from services.gateway.store import TableStore
from services.gateway.table import RouteTable, apply
from shared.events import Event
from tests.support.routes import fact, loaded, ready, route, target
from tests.support.wait import eventually

A = "http://127.0.0.1:1"


def some_table() -> RouteTable:
    table = RouteTable()
    for item in (route("r", target("r@1", "stable", 10_000)), loaded("r0", A, "r@1")):
        table = apply(table, fact(item))
    return table


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = TableStore(tmp_path / "new" / "folder")
    assert store.load() == RouteTable()
    store.save(some_table())
    assert store.load() == some_table()
    assert [path.name for path in store.path.parent.iterdir()] == ["route-table.json"]


def corrupt(text: str) -> list[str]:
    document = json.loads(text)
    document["table"]["routes"]["r"]["targets"][0]["weight"] = 1
    return ["", text[: len(text) // 2], "\0" * 100, "[]", '{"format": 2}', json.dumps(document)]


@pytest.mark.parametrize("case", range(6))
def test_a_corrupt_file_is_set_aside(tmp_path: Path, case: int) -> None:
    store = TableStore(tmp_path)
    store.save(some_table())
    bad = corrupt(store.path.read_text())[case]
    store.path.write_text(bad)
    assert store.load() == RouteTable()
    assert not store.path.exists()
    (aside,) = tmp_path.glob("route-table.json.*.corrupt")
    assert aside.read_text() == bad


class Script:
    """A consumer that delivers given events and then waits for the end, as the real one does at the topic's end."""

    def __init__(self, events: Sequence[Event[Any]], on_event: Callable[[Event[Any]], None]) -> None:
        self._events, self._on_event = events, on_event

    def run(self, stop: threading.Event) -> None:
        for event in self._events:
            self._on_event(event)
        stop.wait()


def test_the_keeper_hands_on_changes_and_writes_the_last(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    seen: list[RouteTable] = []
    events = [
        fact(route("r", revision=1)), fact(route("r", revision=1)),
        fact(route("r", target(None, "stable", 5), revision=2)), fact(ready("r0", A)),
    ]
    keeper = TableKeeper(store, lambda _, on_event: Script(events, on_event), seen.append)
    keeper.load()
    keeper.start()
    eventually(lambda: len(seen) == 2, timeout=10)
    keeper.stop(10)
    assert seen[-1].routes["r"].revision == 1, "the bad revision was refused"
    assert store.load() == seen[-1]


def test_the_keeper_starts_a_consumer_that_failed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.keeper._RESTART_SECONDS", 0.0)
    attempts: list[int] = []
    seen: list[RouteTable] = []

    def consumer(_: Sequence[str], on_event: Callable[[Event[Any]], None]) -> Script:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("no broker")
        return Script([fact(route("r"))], on_event)

    keeper = TableKeeper(TableStore(tmp_path), consumer, seen.append)
    keeper.start()
    eventually(lambda: seen, timeout=10)
    keeper.stop(10)
    assert len(attempts) == 2
