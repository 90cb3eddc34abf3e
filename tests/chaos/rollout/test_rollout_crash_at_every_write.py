"""A controller that dies at any database write, or just before or after any commit, and is started again.

Whatever it was doing, the loop that comes back ends with one promotion (or one rollback), the same route history as
without any crash, and no event twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from services.rollout.models import Base
from tests.support.db import sqlite_engine
from tests.support.rollout_stand import REPLICAS, Stand, model_registered, pipeline_applied, replica_ready, stand

pytestmark = pytest.mark.chaos


class Killed(BaseException):
    """Not an Exception, so that nothing handles it, as nothing handles SIGKILL."""


class Killer:
    """Raises at the `at`-th point at which the database is written."""

    def __init__(self, engine: Engine, at: int) -> None:
        self.engine, self.at, self.points = engine, at, 0
        self.armed = False

    def point(self) -> None:
        if not self.armed:
            return
        self.points += 1
        if self.points == self.at:
            self.armed = False
            raise Killed

    def statement(self, _: Connection, __: Any, sql: str, *___: Any) -> None:
        if sql.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            self.point()

    def commit(self, _: Connection) -> None:
        self.point()

    @contextmanager
    def watching(self) -> Iterator[None]:
        event.listen(self.engine, "before_cursor_execute", self.statement)
        event.listen(self.engine, "commit", self.commit)
        try:
            yield
        finally:
            event.remove(self.engine, "before_cursor_execute", self.statement)
            event.remove(self.engine, "commit", self.commit)


def act(controller: Stand, killer: Killer, number: int) -> None:
    """One rollout from its registration to its end. A killed controller comes back when its lease has run out."""
    controller.hear(model_registered(number))
    controller.load(number)
    for _ in range(30):
        controller.clock.advance(5)
        controller.serve(100)
        try:
            killer.armed = killer.points < killer.at
            controller.look()
        except Killed:
            # The dead process's connections, and with them its transaction, are gone.
            controller.engine.dispose()
            controller.clock.advance(31)
        finally:
            killer.armed = False
        if controller.phase(f"intents-r{number}") in ("promoted", "rolled_back"):
            return
    raise AssertionError(f"it has not ended: {controller.phase(f'intents-r{number}')}")


def history(controller: Stand, number: int, since: int) -> list[list[tuple[str, int]]]:
    """The route's changes since a revision, by role."""
    own = [data for data in controller.told("route.updated.v1") if data["revision"] > since]
    names = {f"intents@{number}": "candidate"}
    return [[(names.get(t["model_version"], "stable"), t["weight"]) for t in data["targets"]] for data in own]


@pytest.mark.parametrize(("bad_share", "end"), [(0.0, "promoted"), (0.4, "rolled_back")])
def test_one_end_whenever_it_dies(bad_share: float, end: str) -> None:
    with sqlite_engine(Base.metadata) as engine, stand(engine) as controller:
        controller.bad_share = bad_share
        controller.hear(pipeline_applied(), *map(replica_ready, REPLICAS))
        undisturbed: list[list[tuple[str, int]]] = []
        for number in range(1, 500):
            since = controller.row().revision
            killer = Killer(engine, at=number - 1)  # the first rollout is left in peace
            with killer.watching():
                act(controller, killer, number)
            if number == 1:
                undisturbed = history(controller, number, since)
            elif killer.points < killer.at:
                break
            assert history(controller, number, since) == undisturbed, f"killed at write {number - 1}"
            ends = [d for name in ("promoted", "rolled_back") for d in controller.told(f"rollout.{name}.v1")]
            assert [data["model_version"] for data in ends].count(f"intents@{number}") == 1
            assert controller.phase(f"intents-r{number}") == end
            counted = controller.decisions(f"intents-r{number}")[-1].evidence["errors"]["candidate_total"]
            assert counted <= sum(controller.counters[f"intents@{number}"]), "an increment was counted twice"
        assert number > 30, "there were hardly any writes to die at"
        revisions = [data["revision"] for data in controller.told("route.updated.v1")]
        assert revisions == list(range(1, len(revisions) + 1))
