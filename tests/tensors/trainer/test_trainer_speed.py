"""What is told of a run's speed, by what it ran on."""

from typing import Any

import pytest
from datasets import Dataset

from services.trainer.job.speed import speed, speed_here
from shared.estimate import known_shape, model_flops_per_token, setup_of
from shared.recipe import TrainingRecipe

SHAPE = known_shape("llama-3.1-8b")


@pytest.mark.parametrize(("device", "bfloat16", "objective", "told"), [
    ("NVIDIA H200", True, "sft", True), ("NVIDIA H200", False, "sft", False), ("NVIDIA A10G", True, "sft", False),
    (None, False, "sft", False), ("NVIDIA H200", True, "grpo", False), ("NVIDIA H200", True, "distill", False),
])
def test_utilization_is_told_where_peak_and_operations_are_known(
    device: str | None, bfloat16: bool, objective: str, told: bool
) -> None:
    recipe = TrainingRecipe.model_validate({"objective": objective})
    found = speed(recipe, SHAPE, [512, 512], 9000.0, device=device, bfloat16=bfloat16)
    assert found["tokens_per_second"] == 9000
    assert ("mfu" in found) is told
    if told:
        assert found["mfu"] == pytest.approx(
            9000 * model_flops_per_token(SHAPE, setup_of(recipe), 512) / 989.4e12
        )
    assert "mfu" not in speed(recipe, None, [512], 9000.0, device=device, bfloat16=bfloat16)


def test_a_run_without_a_step_has_no_speed(tmp_path: Any) -> None:
    assert speed_here(TrainingRecipe(), tmp_path, Dataset.from_dict({}), None, None) == {}
