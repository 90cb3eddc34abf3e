"""What follows when a handler fails."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import InvalidInputError, PermanentError, TemporaryError
from shared.messaging.retry import MAX_ATTEMPTS, Verdict, after_failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60)])
def test_delay_doubles_up_to_a_minute(attempts: int, seconds: int) -> None:
    verdict = after_failure(TemporaryError("later"), attempts=attempts, now=NOW, jitter=1.0)
    assert verdict == Verdict("pending", NOW + timedelta(seconds=seconds))


def test_jitter_halves_the_delay_at_most() -> None:
    verdict = after_failure(TemporaryError("later"), attempts=3, now=NOW, jitter=0.0)
    assert verdict.next_attempt_at == NOW + timedelta(seconds=2)


def test_a_handler_may_ask_for_a_longer_delay() -> None:
    error = TemporaryError("in an hour", delay=timedelta(hours=1))
    assert after_failure(error, attempts=1, now=NOW, jitter=0.5).next_attempt_at == NOW + timedelta(hours=1)


@pytest.mark.parametrize("error", [PermanentError("never"), InvalidInputError("bad")])
def test_permanent_errors_are_not_tried_again(error: Exception) -> None:
    assert after_failure(error, attempts=1, now=NOW, jitter=0.5) == Verdict("dead")


def test_an_unknown_error_is_temporary_because_a_deployment_may_fix_it() -> None:
    assert after_failure(KeyError("bug"), attempts=1, now=NOW, jitter=0.5).status == "pending"


def test_gives_up_after_the_last_attempt() -> None:
    assert after_failure(TemporaryError("later"), attempts=MAX_ATTEMPTS, now=NOW, jitter=0.5) == Verdict("dead")
