"""What follows when a handler fails: pure, so that each case is one line in a test."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.errors import PermanentError, TemporaryError
from shared.messaging.tables import DEAD, PENDING, Status

MAX_ATTEMPTS = 8
FIRST_DELAY = timedelta(seconds=1)
MAX_DELAY = timedelta(seconds=60)


@dataclass(frozen=True)
class Verdict:
    """The row's next status, and when to try again if it stays pending."""

    status: Status
    next_attempt_at: datetime | None = None


def after_failure(error: Exception, *, attempts: int, now: datetime, jitter: float) -> Verdict:
    """Try again later, or give up.

    Args:
        attempts: including the one that just failed.
        jitter: from 0 to 1, drawn by the caller; spreads the retries of many rows over half of the delay.
    """
    if isinstance(error, PermanentError) or attempts >= MAX_ATTEMPTS:
        return Verdict(DEAD)
    delay = min(MAX_DELAY, FIRST_DELAY * 2 ** (attempts - 1)) * (0.5 + jitter / 2)
    if isinstance(error, TemporaryError) and error.delay is not None:
        delay = max(delay, error.delay)
    return Verdict(PENDING, now + delay)
