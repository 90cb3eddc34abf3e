"""What a trainer does whose validation is stopped, and where nothing is left to train."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from services.trainer.job.validating import Validating, ValidationStopped


class Base:
    """Of transformers' trainer what matters here: a validation of three batches, which draws, and an epoch."""

    def __init__(self) -> None:
        self.control = SimpleNamespace(should_save=None, should_evaluate=True, should_training_stop=False)
        self.state = SimpleNamespace(log_history=[], global_step=5, max_steps=10)
        self.args = SimpleNamespace(eval_steps=5)
        self.batches = self.epochs = 0

    def prediction_step(self) -> None:
        self.batches += 1

    def _evaluate(self) -> dict[str, float]:
        for _ in range(3):
            torch.rand(1)
            self.prediction_step()
        self.state.log_history.append({"eval_loss": 1.0, "step": 5})
        return {"eval_loss": 1.0}

    def _run_epoch(self) -> None:
        self.epochs += 1


class Trainer(Validating, Base):
    """One that nothing asks to stop, at first."""

    args: Any
    state: Any
    control: Any


@pytest.mark.parametrize("trusted", [True, False])
def test_a_stopped_validation_is_owed_and_its_weights_are_saved_where_they_are_trusted(trusted: bool) -> None:
    trainer = Trainer()
    trainer.stop_when(lambda: trainer.batches == 2, trusted=lambda: trusted)
    assert trainer._evaluate() == {}
    assert (trainer.batches, trainer.owes_validation) == (2, True)
    control = trainer.control
    assert (control.should_save, control.should_evaluate, control.should_training_stop) == (trusted, False, True)
    with pytest.raises(ValidationStopped):
        trainer.check_stop()


def test_a_whole_validation_draws_no_number_of_the_trainings() -> None:
    trainer, before = Trainer(), torch.random.get_rng_state()
    assert trainer._evaluate() == {"eval_loss": 1.0}
    assert torch.equal(before, torch.random.get_rng_state())
    assert (trainer.batches, trainer.owes_validation) == (3, False)


@pytest.mark.parametrize(("step", "ended", "epochs"), [(5, False, 1), (5, True, 0), (10, False, 0)])
def test_a_run_that_has_ended_takes_no_step_more(step: int, ended: bool, epochs: int) -> None:
    trainer = Trainer()
    trainer.state.global_step, trainer.control.should_training_stop = step, ended
    trainer._run_epoch()
    assert trainer.epochs == epochs
