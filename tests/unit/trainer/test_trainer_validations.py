"""What is read from the validations in a trainer's log."""

import pytest

from services.trainer.job.validations import is_exhausted, is_owed, losses_of, task_losses
from shared.recipe_parts import EarlyStopping


def test_patience_counts_validations_that_were_not_better_by_enough() -> None:
    rule = EarlyStopping(patience=2, min_delta=0.1)
    history = [{"loss": 9.0}, {"eval_loss": 1.0}, {"eval_loss": 0.5}, {"loss": 0.1}]
    assert losses_of(history) == [1.0, 0.5]
    assert not is_exhausted([], rule)
    assert not is_exhausted([1.0, 0.95], rule)
    assert is_exhausted([1.0, 0.95, 0.91], rule)
    assert not is_exhausted([1.0, 0.95, 0.8, 0.75], rule)


@pytest.mark.parametrize(("step", "owed"), [(0, False), (4, False), (5, False), (10, True), (12, True)])
def test_a_checkpoint_owes_the_validation_that_is_due_and_not_in_its_history(step: int, owed: bool) -> None:
    history = [{"loss": 9.0, "step": 5}, {"eval_loss": 1.0, "step": 5}, {"loss": 9.0, "step": 10}]
    assert is_owed(history, step, every=5, last=12) is owed


def test_the_losses_of_tasks_are_those_of_the_best_validation() -> None:
    history = [
        {"loss": 9.0}, {"eval_loss": 2.0, "eval_loss/a": 1.0, "eval_loss/b": 3.0},
        {"eval_loss": 1.5, "eval_loss/a": 1.2, "eval_loss/b": 1.8}, {"eval_loss": 1.7, "eval_loss/a": 0.1},
    ]
    assert task_losses(history) == {"validation_loss/a": 1.2, "validation_loss/b": 1.8}
    assert task_losses([{"loss": 1.0}]) == pytest.approx({})
