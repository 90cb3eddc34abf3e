"""What the trainer chooses where a recipe says auto."""

from typing import Any

import pytest

from services.trainer.job.settle import Machine, settle
from shared.errors import InvalidInputError
from shared.estimate import known_shape
from shared.recipe import AUTO_FIELDS, TrainingRecipe
from shared.recipe_checks import recipe_problems

SMALL = known_shape("smollm2-135m-instruct")
LARGE = known_shape("llama-3.1-8b")
GIB = 2**30


def recipe(**fields: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate({"auto": list(AUTO_FIELDS), **fields})


@pytest.mark.parametrize(("memory", "rows", "batch", "accumulation"), [
    (64 * GIB, 1000, 16, 1), (6 * GIB, 1000, 8, 2), (64 * GIB, 10_000, 32, 1), (64 * GIB, 100_000, 64, 1),
])
def test_the_batch_is_the_largest_that_fits_and_a_step_has_the_rows_that_the_data_wants(
    memory: int, rows: int, batch: int, accumulation: int
) -> None:
    settled = settle(recipe(), SMALL, rows, Machine(gpu=False, memory=memory, processes=1))
    found = settled.recipe
    assert found.batch_size * found.gradient_accumulation == batch * accumulation
    assert found.batch_size <= batch
    assert found.auto == []
    assert set(settled.chosen) == set(AUTO_FIELDS)


def test_less_memory_makes_smaller_batches_and_not_smaller_steps() -> None:
    roomy, narrow = (settle(recipe(), SMALL, 1000, Machine(False, memory, 1)).recipe for memory in (64 * GIB, 3 * GIB))
    assert narrow.batch_size < roomy.batch_size
    assert narrow.batch_size * narrow.gradient_accumulation == roomy.batch_size * roomy.gradient_accumulation == 16


def test_processes_share_a_step() -> None:
    found = settle(recipe(), SMALL, 10_000, Machine(True, 80 * GIB, 4)).recipe
    assert found.batch_size * found.gradient_accumulation * 4 == 32


@pytest.mark.parametrize(("fields", "shape", "rate"), [
    ({}, SMALL, 1.5e-3), ({"epochs": 9}, SMALL, 1e-3), ({"method": "full"}, SMALL, 1e-4), ({}, LARGE, 3e-4),
    ({"method": "ia3"}, SMALL, 7.5e-3), ({"objective": "dpo"}, SMALL, 7.5e-5),
    ({"objective": "pretrain"}, SMALL, 1.5e-4),
])
def test_the_learning_rate_follows_the_model_the_method_and_the_objective(
    fields: dict[str, Any], shape: Any, rate: float
) -> None:
    assert settle(recipe(**fields), shape, 1000, Machine(True, 80 * GIB, 1)).recipe.learning_rate == rate


def test_only_what_is_named_is_chosen_and_long_runs_warm_up() -> None:
    settled = settle(
        TrainingRecipe.model_validate({"warmupSteps": "auto", "batchSize": 4}), SMALL, 4000, Machine(False, 64 * GIB, 1)
    )
    assert settled.recipe.warmup_steps == 30
    assert (settled.recipe.batch_size, settled.recipe.learning_rate) == (4, 2e-3)
    assert settled.chosen == {"warmupSteps": "30: of 1000 steps"}


def test_what_does_not_fit_at_all_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"training.batchSize: not even one row .* \(1.1 GB\)"):
        settle(recipe(), LARGE, 1000, Machine(True, GIB, 1))


def test_auto_may_stand_where_the_number_would() -> None:
    short = TrainingRecipe.model_validate({"learningRate": "auto", "auto": ["batchSize"]})
    assert short.auto == ["batchSize", "learningRate"]
    assert TrainingRecipe.model_validate(short.model_dump(by_alias=True)) == short
    assert dict(recipe_problems(short)) == {}
    assert "remove one of them" in dict(recipe_problems(TrainingRecipe(auto=["batchSize"], batch_size=3)))["batchSize"]
