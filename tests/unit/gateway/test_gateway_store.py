"""The table on disk: whole, or set aside with a clear word; and the keeper that writes it."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.gateway.keeper import OnEvent, TableKeeper
from services.gateway.store import TableStore
from services.gateway.table import RouteTable, apply
from shared.events import Event
from tests.support.routes import canary, fact, loaded, ready, route, target
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


CaughtUp = Callable[[], None]


class Script:
    """A consumer that delivers given events and then waits for the end, as the real one does at the topic's end."""

    def __init__(
        self, history: Sequence[Event[Any]], news: Sequence[Event[Any]], on_event: OnEvent, on_caught_up: CaughtUp
    ) -> None:
        self._history, self._news, self._on_event, self._on_caught_up = history, news, on_event, on_caught_up

    def run(self, stop: threading.Event) -> None:
        for event in self._history:
            self._on_event(event)
        self._on_caught_up()
        for event in self._news:
            self._on_event(event)
        stop.wait()


def test_the_keeper_hands_on_changes_and_writes_the_last(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    seen: list[RouteTable] = []
    events = [
        fact(route("r", revision=1)), fact(route("r", revision=1)),
        fact(route("r", target(None, "stable", 5), revision=2)), fact(ready("r0", A)),
    ]
    keeper = TableKeeper(store, lambda _, *to: Script([], events, *to), seen.append)
    keeper.load()
    keeper.start()
    eventually(lambda: len(seen) == 2)
    keeper.stop(10)
    assert seen[-1].routes["r"].revision == 1, "the bad revision was refused"
    assert store.load() == seen[-1]


def test_the_keeper_starts_a_consumer_that_failed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.keeper._RESTART_SECONDS", 0.0)
    attempts: list[int] = []
    seen: list[RouteTable] = []

    def consumer(_: Sequence[str], *to: Any) -> Script:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("no broker")
        return Script([], [fact(route("r"))], *to)

    keeper = TableKeeper(TableStore(tmp_path), consumer, seen.append)
    keeper.start()
    eventually(lambda: seen)
    keeper.stop(10)
    assert len(attempts) == 2


def test_history_is_not_served_on_the_way(tmp_path: Path) -> None:
    """Three rollouts of the past and the present, one after another in the topic: only their end is handed on."""
    seen: list[RouteTable] = []
    history = [fact(canary("r", None, "r@1", 1_000 * revision, revision=revision)) for revision in range(1, 5)]
    keeper = TableKeeper(TableStore(tmp_path), lambda _, *to: Script(history, [], *to), seen.append)
    keeper.load()
    assert not keeper.complete
    keeper.start()
    eventually(lambda: keeper.complete)
    keeper.stop(10)
    assert [table.routes["r"].revision for table in seen] == [4]


def test_a_topic_without_an_end_is_followed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.keeper._HISTORY_SECONDS", 0.0)
    seen: list[RouteTable] = []
    keeper = TableKeeper(TableStore(tmp_path), lambda _, *to: Script([], [], *to), seen.append)
    for revision in range(1, 50):
        keeper.on_event(fact(route("r", revision=revision)))
    assert seen[-1].routes["r"].revision == 49


def test_an_empty_topic_is_a_complete_table(tmp_path: Path) -> None:
    """A new installation has no routes, and its gateway is as ready as it can be."""
    keeper = TableKeeper(TableStore(tmp_path), lambda _, *to: Script([], [], *to), lambda _: None)
    keeper.start()
    eventually(lambda: keeper.complete)
    keeper.stop(10)
