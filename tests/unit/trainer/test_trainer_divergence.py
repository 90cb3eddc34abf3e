"""Divergence: judged by the run's own past, and the last good checkpoint is kept."""

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl

from services.trainer.job.divergence import bound_of, judge
from services.trainer.job.guard import DivergenceGuard
from shared.errors import PermanentError
from shared.recipe import TrainingRecipe


def history(losses: list[float]) -> list[dict[str, Any]]:
    """A trainer's log, with validations between the steps."""
    entries: list[dict[str, Any]] = []
    for step, loss in enumerate(losses, 1):
        entries += [{"eval_loss": loss, "step": step}, {"loss": loss, "grad_norm": 1.0, "step": step}]
    return entries


def learned(steps: int = 60, seed: int = 1) -> list[float]:
    """A loss that falls from 3 to 0.5, with the noise of small batches."""
    stream = random.Random(seed)
    return [0.5 + 2.5 * math.exp(-step / 10) + stream.gauss(0, 0.1) for step in range(steps)]


@pytest.mark.parametrize(("entry", "what"), [
    ({"loss": math.nan}, "the loss became nan"), ({"loss": math.inf}, "the loss became inf"),
    ({"loss": 1.0, "grad_norm": math.nan}, "the gradient norm became nan"),
])
def test_what_is_no_number_is_divergence_at_once(entry: dict[str, Any], what: str) -> None:
    for uneven in (False, True):
        verdict = judge([{"loss": 1.0}, entry], uneven=uneven)
        assert (verdict.state, verdict.reason) == ("diverged", what)


@pytest.mark.parametrize("seed", range(10))
def test_noise_spikes_and_a_slow_rise_are_fine(seed: int) -> None:
    losses = learned(300, seed)
    losses[100] += 9
    losses[200:202] = [9.0, 9.0]
    for step in range(250, 300):
        losses[step] += (step - 250) / 500
    states = [judge(history(losses[:step])).state for step in range(1, 301, 1 if seed == 0 else 7)]
    assert "diverged" not in states
    if seed == 0:
        assert states.count("doubtful") == 3, "only the spikes themselves"


def test_a_loss_that_stays_up_is_divergence_and_doubtful_before() -> None:
    losses = learned()
    states = [judge(history(losses + [4.0] * extra)).state for extra in range(7)]
    assert states[:1] + states[5:6] == ["fine", "diverged"]
    assert set(states[1:5]) == {"doubtful"}
    assert judge(history(losses + [4.0] * 6), uneven=True).state == "fine"
    assert judge(history([1.0] * 5 + [50.0] * 5)).state == "fine", "too short a past to judge by"


def test_the_bound_is_the_largest_of_noise_lost_progress_and_the_floor() -> None:
    assert bound_of([0.5] * 9, [0.5]) == pytest.approx(0.6)
    assert bound_of([0.5] * 9, [2.5]) == pytest.approx(1.5)
    assert bound_of([0.0, 1.0] * 5, [0.5]) == pytest.approx(0.5 + 6 * 1.4826 * 0.5)


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
