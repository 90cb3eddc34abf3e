"""The attempt policy: every combination ends, and no attempt is launched twice or skipped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs import Complete, GiveUp, JobFailure, JobState, Launch, Retry, Wait, WorkState, next_action

JOBS: tuple[JobState, ...] = ("absent", "pending", "running", "succeeded", "failed")
jobs = st.sampled_from(JOBS)
states = st.sampled_from(("pending", "running"))
failures = st.none() | st.builds(JobFailure, message=st.just("disk full"), permanent=st.booleans())


def test_a_new_row_is_launched() -> None:
    assert next_action("pending", "absent", result=False, failure=None, attempt=1, max_attempts=3) == Launch(1)


@pytest.mark.parametrize("job", ["pending", "running"])
def test_a_job_that_was_launched_before_the_service_died_is_adopted(job: JobState) -> None:
    """Launching is idempotent by name, so adopting is launching the same attempt again."""
    assert next_action("pending", job, result=False, failure=None, attempt=2, max_attempts=3) == Launch(2)


@pytest.mark.parametrize("job", ["pending", "running"])
def test_a_running_job_is_left_alone(job: JobState) -> None:
    assert next_action("running", job, result=False, failure=None, attempt=1, max_attempts=3) == Wait()


@pytest.mark.parametrize("job", ["absent", "succeeded", "failed"])
def test_a_lost_attempt_is_followed_by_the_next(job: JobState) -> None:
    action = next_action("running", job, result=False, failure=None, attempt=1, max_attempts=3, message="signal 9")
    assert isinstance(action, Retry)
    assert action.attempt == 2
    assert "signal 9" in action.reason


def test_the_last_attempt_says_which_it_was() -> None:
    action = next_action("running", "failed", result=False, failure=None, attempt=3, max_attempts=3)
    assert action == GiveUp("attempt 3 of 3: the job was killed or crashed")


def test_a_permanent_failure_is_not_tried_again() -> None:
    failure = JobFailure(message="the adapter changes nothing", permanent=True)
    action = next_action("running", "failed", result=False, failure=failure, attempt=1, max_attempts=3)
    assert action == GiveUp("the adapter changes nothing")


def test_delays_grow_and_are_bounded() -> None:
    delays = []
    for attempt in range(1, 15):
        action = next_action("running", "failed", result=False, failure=None, attempt=attempt, max_attempts=20)
        assert isinstance(action, Retry)
        delays.append(action.delay)
    assert delays == sorted(delays)
    assert delays[-1] == 60


@given(
    state=states,
    job=jobs,
    result=st.booleans(),
    failure=failures,
    attempt=st.integers(1, 5),
    max_attempts=st.integers(1, 5),
)
def test_attempts_never_exceed_the_limit_and_results_win(
    *, state: WorkState, job: JobState, result: bool, failure: JobFailure | None, attempt: int, max_attempts: int
) -> None:
    action = next_action(state, job, result=result, failure=failure, attempt=attempt, max_attempts=max_attempts)
    assert isinstance(action, Complete) == result
    if isinstance(action, Retry):
        assert action.attempt == attempt + 1 <= max_attempts
    if isinstance(action, Launch):
        assert action.attempt == attempt
    if job in {"succeeded", "failed"}:
        assert not isinstance(action, Wait | Launch), "an ended job is neither waited for nor launched again"
