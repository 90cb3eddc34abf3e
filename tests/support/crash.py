"""Dying at a chosen write."""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Engine


class Crash(BaseException):
    """The process dies here. No handler of errors may catch it, as none could catch SIGKILL."""


class CrashPlan:
    """Counts the points at which the process could die, and kills it at some.

    Args:
        at: the points, counted from 1 over all restarts.

    Attributes:
        names: of the points that were passed.
    """

    def __init__(self, at: Collection[int] = ()) -> None:
        self._at = frozenset(at)
        self.names: list[str] = []

    def hit(self, name: str) -> None:
        """Die here, if planned."""
        self.names.append(name)
        if len(self.names) in self._at:
            raise Crash(f"{len(self.names)}: {name}")


def watch_commits(engine: Engine, hit: Callable[[str], None]) -> None:
    """Let `hit` be called before and after each commit on an engine."""
    commit = engine.dialect.do_commit

    def watched(connection: Any) -> None:
        hit("before database commit")
        commit(connection)
        hit("after database commit")

    engine.dialect.do_commit = watched  # type: ignore[method-assign, assignment]
