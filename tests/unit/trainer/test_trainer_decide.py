"""The trainer's pure decisions."""

from datetime import timedelta

from services.trainer.decide import run_id_of, worth_telling
from services.trainer.files import Progress, checkpoints_of
from tests.support.delivery import START

DIGEST = "sha256:" + "ab" * 32


def test_the_same_work_has_the_same_id_and_other_work_another() -> None:
    assert run_id_of("intents", 2, DIGEST) == "intents-v2-abababababab"
    assert len({run_id_of("a", 1, DIGEST), run_id_of("a", 2, DIGEST), run_id_of("b", 1, DIGEST)}) == 3


def test_progress_is_told_when_it_changed_and_not_too_often() -> None:
    old, new, every = Progress(step=1, total_steps=9), Progress(step=2, total_steps=9), timedelta(seconds=5)
    later = START + every
    assert worth_telling(new, None, now=START, told_at=None, every=every)
    assert worth_telling(new, old, now=later, told_at=START, every=every)
    assert not worth_telling(new, old, now=later - timedelta(seconds=1), told_at=START, every=every)
    assert not worth_telling(new, new, now=later, told_at=START, every=every)


def test_the_newest_attempts_checkpoints_come_first() -> None:
    assert checkpoints_of("r", 2) == ["runs/r/2/checkpoints/", "runs/r/1/checkpoints/"]
