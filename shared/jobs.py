"""The attempt policy of launched jobs: what to do next with a job that trains or evaluates.

A service keeps a row per piece of work (`pending` or `running`, and an attempt number from 1), launches a job named
after the row and the attempt, and looks at it again and again. This module decides; the caller observes and acts.

The caller must observe the launcher first and the job's files second. A job writes its result last and then ends, so
a job that was seen to have ended, and whose result is then not there, will never write one.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

WorkState = Literal["pending", "running"]
JobState = Literal["absent", "pending", "running", "succeeded", "failed"]

_LONGEST_DELAY_SECONDS = 60.0


class JobFailure(BaseModel):
    """A job's ``failure.json``: what went wrong, in words for people.

    Attributes:
        message: what was wrong, where, and what to do.
        permanent: the same job would fail the same way again, so that no other attempt is made.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    message: str
    permanent: bool = False


@dataclass(frozen=True)
class Launch:
    """Launch this attempt (idempotent by name), then remember the row as running."""

    attempt: int


@dataclass(frozen=True)
class Retry:
    """The attempt is lost: remember the row as pending at this next attempt, due in `delay` seconds."""

    attempt: int
    delay: float
    reason: str


@dataclass(frozen=True)
class Wait:
    """The job is at work. Look again later."""


@dataclass(frozen=True)
class Complete:
    """The result is there: take it."""


@dataclass(frozen=True)
class GiveUp:
    """No attempt will succeed, or none is left; `reason` is for people."""

    reason: str


Action: TypeAlias = Launch | Retry | Wait | Complete | GiveUp


def next_action(
    state: WorkState,
    job: JobState,
    *,
    result: bool,
    failure: JobFailure | None,
    attempt: int,
    max_attempts: int,
    message: str = "",
) -> Action:
    """What to do with the row's present attempt.

    Args:
        state: `pending` until the attempt's launch was remembered, `running` after.
        job: what the launcher says about this attempt's job.
        result: this attempt's result is in S3.
        failure: this attempt's ``failure.json``, if there is one.
        attempt: the present attempt, from 1.
        max_attempts: no attempt beyond this number is made.
        message: what the launcher tells about the end of the job, such as the tail of its log.
    """
    if result:
        return Complete()
    if failure is not None and failure.permanent:
        return GiveUp(failure.message)
    if failure is None and job in {"pending", "running"}:
        return Launch(attempt) if state == "pending" else Wait()
    if failure is None and job == "absent" and state == "pending":
        return Launch(attempt)
    reason = failure.message if failure else _lost(job, message)
    if attempt >= max_attempts:
        return GiveUp(f"attempt {attempt} of {max_attempts}: {reason}")
    return Retry(attempt + 1, min(_LONGEST_DELAY_SECONDS, 2.0**attempt), reason)


def _lost(job: JobState, message: str) -> str:
    """Words for a job that ended, or vanished, and left neither a result nor a failure."""
    how = {
        "absent": "the job vanished from the launcher",
        "succeeded": "the job ended without an error and without a result",
    }.get(job, "the job was killed or crashed")
    return f"{how}: {message.strip()}" if message.strip() else how
