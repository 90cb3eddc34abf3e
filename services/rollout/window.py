"""The rollback window: which versions a route may go back to without a new analysis. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.pipeline import RollbackWindow
from shared.spec_part import format_duration


@dataclass(frozen=True)
class Promotion:
    """A version became the route's stable one."""

    model_version: str
    at: datetime


def previous(history: Sequence[Promotion]) -> str | None:
    """The version that was stable before the present one; None if that was the bare base model.

    Args:
        history: the route's promotions, newest first.
    """
    return next((past.model_version for past in history if past.model_version != history[0].model_version), None)


def outside(history: Sequence[Promotion], version: str, now: datetime, window: RollbackWindow) -> str:
    """Why `version` is outside the window; empty if it is inside.

    Args:
        history: the route's promotions, newest first; `version` is among them and is not the first.
    """
    earlier = list(dict.fromkeys(past.model_version for past in history[1:]
                                 if past.model_version != history[0].model_version))
    back = earlier.index(version) + 1
    if back > window.revisions:
        return f"it is {back} versions back, and rollbackWindow.revisions is {window.revisions}"
    last = next(index for index, past in enumerate(history) if past.model_version == version)
    replaced = history[last - 1].at
    if now - replaced > window.duration:
        return (f"it was replaced {format_duration(now - replaced)} ago, and rollbackWindow.duration is "
                f"{format_duration(window.duration)}")
    return ""
