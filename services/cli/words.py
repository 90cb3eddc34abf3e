"""Values in words for people: times, durations, shares, states. Pure."""

from datetime import UTC, datetime
from typing import Any

from rich.text import Text

_STYLES = {
    **dict.fromkeys(("production", "promoted", "passed", "met", "completed", "prepared", "ok", "safe"), "green"),
    "delivered": "green",
    **dict.fromkeys(("failed", "refused", "rejected", "missed", "rolled_back", "dead", "aborting", "harmful"), "red"),
    **dict.fromkeys(("paused", "superseded", "archived", "undecided", "no_data"), "yellow"),
    **dict.fromkeys(("running", "progressing", "staging", "promoting", "published", "candidate", "pending"), "cyan"),
}


def state(word: str | None) -> Text:
    """A state in its colour."""
    return Text(word or "-", style=_STYLES.get(word or "", ""))


def mark(passed: bool) -> Text:
    """A gate's outcome."""
    return Text("passed", style="green") if passed else Text("failed", style="red")


def number(value: float | None, digits: int = 3) -> str:
    """A measured number, or a dash where there is none."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def share(basis_points: int | None) -> str:
    """A weight as percent: 2500 is 25 %."""
    return "-" if basis_points is None else f"{basis_points / 100:g} %"


def duration(seconds: float | None) -> str:
    """Two units at most: 45s, 3m 20s, 2h 5m, 3d 4h."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    for large, small, unit, below in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large}{unit}" + (f" {rest}{below}" if rest else "")
    return f"{whole}s"


def moment(text: str | None) -> datetime | None:
    """The instant in a service's answer."""
    if not text:
        return None
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def instant(text: str) -> datetime:
    """The instant in a service's answer that is always there."""
    parsed = moment(text)
    if parsed is None:
        raise ValueError("a time is missing in the service's answer")
    return parsed


def ago(text: str | None, now: datetime) -> str:
    """How long ago an instant was."""
    then = moment(text)
    return "-" if then is None else f"{duration(max(0.0, (now - then).total_seconds()))} ago"


def between(start: str | None, end: str | None, now: datetime) -> str:
    """How long something took, or takes up to now."""
    first = moment(start)
    return "-" if first is None else duration(((moment(end) or now) - first).total_seconds())


def short(digest: str | None) -> str:
    """The first characters of a digest, enough to tell it from others."""
    return "-" if not digest else digest.removeprefix("sha256:")[:12]


def size(count: float) -> str:
    """Bytes in binary units."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def splits(rows: dict[str, Any] | None) -> str:
    """Rows by split on one line."""
    return "-" if not rows else ", ".join(f"{count} {split}" for split, count in rows.items())
