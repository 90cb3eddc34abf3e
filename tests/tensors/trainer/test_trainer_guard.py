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
    guard = DivergenceGuard(TrainingRecipe.model_validate({"on_divergence": policy}))
    control, args = TrainerControl(should_save=True, should_evaluate=True), SimpleNamespace(output_dir=str(tmp_path))
    for step in saved:
        guard.on_save(args, SimpleNamespace(global_step=step), control)
    state: Any = SimpleNamespace(log_history=history(losses), global_step=len(losses))
    guard.on_log(args, state, control)
    return guard, control


def test_nothing_is_saved_while_the_loss_is_doubtful(tmp_path: Path) -> None:
    assert guarded(tmp_path, "fail", learned())[1].should_save
    assert not guarded(tmp_path, "fail", [*learned(), 4.0])[1].should_save


def test_a_diverged_run_fails_with_what_to_change_and_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"diverged at step 65: the loss is 4, .* Lower training.learningRate .*"
                       r"the checkpoint of step 40 is kept"):
        guarded(tmp_path, "fail", learned() + [4.0] * 5, (30, 40))


def test_by_policy_the_last_good_weights_are_the_result(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no checkpoint had been saved"):
        guarded(tmp_path, "keep", [math.nan])
    guard, control = guarded(tmp_path, "keep", learned() + [4.0] * 5, (9, 40))
    assert (control.should_save, control.should_evaluate, control.should_training_stop) == (False, False, True)
    loaded: list[str] = []
    told = guard.restore(SimpleNamespace(_load_from_checkpoint=loaded.append))
    assert loaded == [str(tmp_path / "checkpoint-40")]
    assert told == {"diverged_at_step": 65.0, "kept_step": 40.0}
    assert guarded(tmp_path, "keep", learned())[0].restore(None) == {}


def test_a_resumed_run_has_the_checkpoint_that_it_began_with(tmp_path: Path) -> None:
    guard = DivergenceGuard(TrainingRecipe(on_divergence="keep"))
    args, control, state = SimpleNamespace(output_dir=str(tmp_path)), TrainerControl(), SimpleNamespace(global_step=20)
    guard.on_train_begin(args, state, control)
    guard.on_log(args, SimpleNamespace(log_history=[{"loss": math.nan}], global_step=21), control)
    loaded: list[str] = []
    assert guard.restore(SimpleNamespace(_load_from_checkpoint=loaded.append))["kept_step"] == 20
    assert loaded == [str(tmp_path / "checkpoint-20")]
