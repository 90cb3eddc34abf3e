"""A run that diverges: what ends it, and that the last good checkpoint is kept."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl

from services.trainer.job.guard import DivergenceGuard
from shared.errors import PermanentError
from shared.recipe import TrainingRecipe
from tests.support.losses import history, learned


def guarded(
    tmp_path: Path, policy: str, losses: list[float], saved: tuple[int, ...] = ()
) -> tuple[DivergenceGuard, TrainerControl]:
    """A guard that heard of each step, and of a checkpoint after some of them."""
    guard = DivergenceGuard(TrainingRecipe.model_validate({"on_divergence": policy}))
    control, args = TrainerControl(), SimpleNamespace(output_dir=str(tmp_path), learning_rate=2e-3)
    state: Any = SimpleNamespace(log_history=[], global_step=0, max_steps=len(losses))
    for state.global_step, loss in enumerate(losses, 1):
        control.should_save, control.should_evaluate = True, True
        state.log_history.append({"loss": loss})
        guard.on_log(args, state, control)
        if state.global_step in saved:
            guard.on_save(args, state, control)
    return guard, control


def test_nothing_is_saved_while_the_loss_is_doubtful(tmp_path: Path) -> None:
    assert guarded(tmp_path, "fail", learned())[1].should_save
    assert not guarded(tmp_path, "fail", [*learned(), 4.0])[1].should_save


def test_a_diverged_run_fails_with_what_to_change_and_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"diverged at step 65: the loss is 4, .* Lower training.learningRate .*"
                       r"the checkpoint of step 40 is kept"):
        guarded(tmp_path, "fail", learned() + [4.0] * 5, (30, 40))


def test_by_policy_the_last_good_weights_are_the_result(tmp_path: Path) -> None:
    for losses in ([math.nan], [1.0, math.nan]):
        with pytest.raises(PermanentError, match=r"keep had nothing to keep, as no checkpoint .* saved every 10 steps"):
            guarded(tmp_path, "keep", losses, (1,))
    guard, control = guarded(tmp_path, "keep", learned() + [4.0] * 5, (9, 40, 60))
    assert (control.should_save, control.should_evaluate, control.should_training_stop) == (False, False, True)
    loaded: list[str] = []
    told = guard.restore(SimpleNamespace(_load_from_checkpoint=loaded.append))
    assert loaded == [str(tmp_path / "checkpoint-40")]
    assert told == {"diverged_at_step": 65.0, "kept_step": 40.0}
    assert guarded(tmp_path, "keep", learned())[0].restore(None) == {}


def test_a_checkpoint_is_good_once_the_step_after_it_was_fine(tmp_path: Path) -> None:
    """Also the one that a resumed run began with."""
    guard = DivergenceGuard(TrainingRecipe(on_divergence="keep"))
    args, control, state = SimpleNamespace(output_dir=str(tmp_path)), TrainerControl(), SimpleNamespace(global_step=20)
    guard.on_train_begin(args, state, control)
    guard.on_log(args, SimpleNamespace(log_history=[{"loss": 1.0}], global_step=21), control)
    guard.on_save(args, SimpleNamespace(global_step=21), control)
    guard.on_log(args, SimpleNamespace(log_history=[{"loss": math.nan}], global_step=22), control)
    loaded: list[str] = []
    assert guard.restore(SimpleNamespace(_load_from_checkpoint=loaded.append))["kept_step"] == 20
    assert loaded == [str(tmp_path / "checkpoint-20")]


@pytest.mark.parametrize(("end", "diverged"), [(0.6, None), (4.0, 64)])
def test_an_end_in_doubt_is_decided_when_the_last_weights_are_validated(
    tmp_path: Path, end: float, diverged: int | None
) -> None:
    guard, control = guarded(tmp_path, "keep", learned(), (40,))
    log = [{"eval_loss": 0.5}, *history(learned() + [4.0] * 4), {"eval_loss": end}]
    state = SimpleNamespace(log_history=log, global_step=64, max_steps=64)
    guard.on_evaluate(SimpleNamespace(output_dir=str(tmp_path)), state, control)
    assert guard.diverged_at == diverged
