"""Which versions a route may go back to at once."""

from datetime import UTC, datetime, timedelta

import pytest

from services.rollout.window import Promotion, outside, previous
from shared.pipeline import RollbackWindow

START = datetime(2026, 1, 1, tzinfo=UTC)


def history(*versions: str) -> list[Promotion]:
    """A promotion each hour; given oldest first, as they happened."""
    made = [Promotion(version, START + timedelta(hours=hour)) for hour, version in enumerate(versions)]
    return made[::-1]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [(("m@1",), None), (("m@1", "m@2"), "m@1"), (("m@1", "m@2", "m@1"), "m@2"), (("m@1", "m@2", "m@2"), "m@1")],
)
def test_the_version_before(versions: tuple[str, ...], expected: str | None) -> None:
    assert previous(history(*versions)) == expected


@pytest.mark.parametrize(
    ("version", "minutes", "revisions", "why"),
    [
        ("m@2", 59, 1, ""),
        ("m@2", 61, 1, "it was replaced 3660s ago, and rollbackWindow.duration is 3600s"),
        ("m@1", 1, 1, "it is 2 versions back, and rollbackWindow.revisions is 1"),
        ("m@1", 1, 2, "it was replaced 3660s ago, and rollbackWindow.duration is 3600s"),
    ],
)
def test_by_time_and_by_number(version: str, minutes: int, revisions: int, why: str) -> None:
    past = history("m@1", "m@2", "m@3")
    now = past[0].at + timedelta(minutes=minutes)
    window = RollbackWindow(duration=timedelta(hours=1), revisions=revisions)
    assert outside(past, version, now, window) == why


def test_what_was_stable_twice_counts_from_the_last_time() -> None:
    past = history("m@1", "m@2", "m@1", "m@3")
    now = past[0].at + timedelta(minutes=1)
    assert outside(past, "m@1", now, RollbackWindow()) == ""
