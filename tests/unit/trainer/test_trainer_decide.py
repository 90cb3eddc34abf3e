"""The trainer's pure decisions."""

from datetime import timedelta

from services.trainer.decide import may_start, run_id_of, worth_telling
from services.trainer.files import Progress, checkpoints_of
from tests.support.delivery import START

DIGEST = "sha256:" + "ab" * 32


def test_the_same_work_has_the_same_id_and_other_work_another() -> None:
    assert run_id_of("intents", 2, DIGEST) == "intents-v2-abababababab"
    assert len({run_id_of("a", 1, DIGEST), run_id_of("a", 2, DIGEST), run_id_of("b", 1, DIGEST)}) == 3


def test_runs_start_in_order_and_no_more_than_allowed() -> None:
    waiting = ["first", "second", "third"]
    assert [name for name in waiting if may_start(name, 1, 0, waiting, 2)] == ["first", "second"]
    assert [name for name in waiting if may_start(name, 1, 1, waiting, 2)] == ["first"]
    assert not any(may_start(name, 1, 2, waiting, 2) for name in waiting)


def test_a_run_that_had_its_turn_goes_before_those_that_wait() -> None:
    assert may_start("restarted", 2, 0, ["first"], 1)
    assert not may_start("restarted", 2, 1, ["first"], 1)


def test_progress_is_told_when_it_changed_and_not_too_often() -> None:
    old, new, every = Progress(step=1, total_steps=9), Progress(step=2, total_steps=9), timedelta(seconds=5)
    later = START + every
    assert worth_telling(new, None, now=START, told_at=None, every=every)
    assert worth_telling(new, old, now=later, told_at=START, every=every)
    assert not worth_telling(new, old, now=later - timedelta(seconds=1), told_at=START, every=every)
    assert not worth_telling(new, new, now=later, told_at=START, every=every)


def test_the_newest_attempts_checkpoints_come_first() -> None:
    assert checkpoints_of("r", 2) == ["runs/r/2/checkpoints/", "runs/r/1/checkpoints/"]
