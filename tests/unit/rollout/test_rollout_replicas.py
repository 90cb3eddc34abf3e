"""Which model servers are forgotten."""

from datetime import UTC, datetime, timedelta

import pytest

from services.rollout.models import Replica
from services.rollout.replicas import silent

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LIMIT = timedelta(minutes=30)


def replica(name: str, minutes: float | None, *, base: str = "tiny", says: bool = True, gone: bool = False) -> Replica:
    """One that reported some minutes ago."""
    ready = NOW - timedelta(days=1)
    return Replica(id=name, base_model=base, ready_at=ready, says_alive=says, forgotten_at=ready if gone else None,
                   seen_at=None if minutes is None else NOW - timedelta(minutes=minutes))


def names(*replicas: Replica, listening: timedelta = timedelta(days=1)) -> list[str]:
    return [one.id for one in silent(replicas, NOW, LIMIT, listening=NOW - listening)]


def test_the_one_that_is_silent_beside_others_that_report() -> None:
    assert names(replica("a", 5), replica("b", 31), replica("c", 29)) == ["b"]


@pytest.mark.parametrize("others", [[], [replica("a", 31)], [replica("a", 5, base="another")]],
                         ids=["alone", "all are silent", "others serve another base model"])
def test_silence_of_all_says_nothing_of_one(others: list[Replica]) -> None:
    assert names(replica("b", 31), *others) == []


def test_an_agent_that_never_reports_without_news_is_not_silent() -> None:
    assert names(replica("a", 5), replica("b", 600, says=False), replica("c", None, says=False)) == []


def test_a_controller_that_has_just_begun_to_listen_forgets_nobody() -> None:
    assert names(replica("a", 5), replica("b", 600), listening=timedelta(minutes=29)) == []


def test_nobody_is_forgotten_twice() -> None:
    assert names(replica("a", 5), replica("b", 600, gone=True)) == []
