"""Values in words."""

from datetime import UTC, datetime

import pytest

from services.cli import words

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "text"), [
    (None, "-"), (0, "0s"), (45.4, "45s"), (60, "1m"), (200, "3m 20s"), (7500, "2h 5m"),
    (86400 * 3 + 4 * 3600, "3d 4h"),
])
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (7, "7"), (0.25, "0.250"), (1.0, "1.000")])
def test_numbers(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(("weight", "text"), [(None, "-"), (0, "0 %"), (1250, "12.5 %"), (10_000, "100 %")])
def test_weights_are_percent(weight: int | None, text: str) -> None:
    assert words.share(weight) == text


def test_ages_and_spans() -> None:
    assert words.ago("2026-01-01T11:58:00Z", NOW) == "2m ago"
    assert words.ago("2026-01-01T12:00:05Z", NOW) == "0s ago"
    assert words.ago(None, NOW) == "-"
    assert words.between("2026-01-01T11:00:00+00:00", None, NOW) == "1h"
    assert words.between("2026-01-01T11:00:00+00:00", "2026-01-01T11:00:30+00:00", NOW) == "30s"


def test_sizes_and_digests() -> None:
    assert [words.size(n) for n in (12, 2048, 5 * 1024**2, 3 * 1024**3)] == ["12 B", "2.0 KiB", "5.0 MiB", "3.0 GiB"]
    assert words.short("sha256:" + "ab" * 32) == "abababababab"
