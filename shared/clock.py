"""Time as a dependency, so that no test waits on it.

`SystemClock` is for production. `VirtualClock` moves only when told to, or when somebody waits on it.
"""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the loops and reducers may know about time."""

    def now(self) -> datetime:
        """The present instant, timezone-aware in UTC."""
        ...

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait `seconds` or until `stop` is set; True if it was set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        return stop.wait(seconds)


class VirtualClock:
    """A clock for tests: waiting moves it forward at once."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now += timedelta(seconds=seconds)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.advance(seconds)
        return stop.is_set()


def monotonic() -> float:
    """Seconds from an arbitrary start, for measuring durations only."""
    return time.monotonic()
