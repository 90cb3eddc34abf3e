"""What the trainer chooses where a recipe says auto."""

from typing import Any

import pytest

from services.trainer.job.lengths import Lengths
from services.trainer.job.settle import Given, Machine, Settled, settle
from shared.errors import InvalidInputError
from shared.estimate import ModelShape, known_shape
from shared.recipe import TrainingRecipe
from shared.recipe_auto import AUTO_FIELDS
from shared.recipe_checks import recipe_problems
from shared.recipe_parts import LoraRecipe

SMALL = known_shape("smollm2-135m-instruct")
LARGE = known_shape("llama-3.1-8b")
GIB = 2**30


ROOMY = Machine(gpu=True, memory=80 * GIB, processes=1)
STEP = ["batchSize", "gradientAccumulation", "learningRate", "warmupSteps"]


def recipe(**fields: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate({"auto": STEP, **fields})


def settled(
    asked: TrainingRecipe, shape: ModelShape = SMALL, rows: int = 1000, *, machine: Machine | None = ROOMY,
    lengths: Lengths | None = None, start: LoraRecipe | None = None,
) -> Settled:
    return settle(asked, Given(shape, rows, machine, lengths, start))


def left(*keys: str, **fields: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate({"auto": list(keys), **fields})


@pytest.mark.parametrize(("memory", "rows", "batch", "accumulation"), [
    (64 * GIB, 1000, 16, 1), (6 * GIB, 1000, 8, 2), (64 * GIB, 10_000, 32, 1), (64 * GIB, 100_000, 64, 1),
])
def test_the_batch_is_the_largest_that_fits_and_a_step_has_the_rows_that_the_data_wants(
    memory: int, rows: int, batch: int, accumulation: int
) -> None:
    made = settled(recipe(), rows=rows, machine=Machine(gpu=False, memory=memory, processes=1))
    found = made.recipe
    assert found.batch_size * found.gradient_accumulation == batch * accumulation
    assert found.batch_size <= batch
    assert found.auto == []
    assert set(made.chosen) == set(STEP)


def test_less_memory_makes_smaller_batches_and_not_smaller_steps() -> None:
    roomy, narrow = (settled(recipe(), machine=Machine(False, memory, 1)).recipe for memory in (64 * GIB, 3 * GIB))
    assert narrow.batch_size < roomy.batch_size
    assert narrow.batch_size * narrow.gradient_accumulation == roomy.batch_size * roomy.gradient_accumulation == 16


def test_processes_share_a_step() -> None:
    found = settled(recipe(), rows=10_000, machine=Machine(True, 80 * GIB, 4)).recipe
    assert found.batch_size * found.gradient_accumulation * 4 == 32


@pytest.mark.parametrize(("fields", "shape", "rate"), [
    ({}, SMALL, 1.5e-3), ({"epochs": 9}, SMALL, 1e-3), ({"method": "full"}, SMALL, 1e-4), ({}, LARGE, 3e-4),
    ({"method": "ia3"}, SMALL, 7.5e-3), ({"objective": "dpo"}, SMALL, 7.5e-5),
    ({"objective": "pretrain"}, SMALL, 1.5e-4),
])
def test_the_learning_rate_follows_the_model_the_method_and_the_objective(
    fields: dict[str, Any], shape: Any, rate: float
) -> None:
    assert settled(recipe(**fields), shape).recipe.learning_rate == rate


def test_only_what_is_named_is_chosen_and_long_runs_warm_up() -> None:
    made = settled(TrainingRecipe.model_validate({"warmupSteps": "auto", "batchSize": 4}), rows=4000)
    assert made.recipe.warmup_steps == 30
    assert (made.recipe.batch_size, made.recipe.learning_rate) == (4, 2e-3)
    assert made.chosen == {"warmupSteps": "30: 3 % of 1000 steps; none in a short run, whose first steps count"}


def test_groups_of_answers_fill_steps_that_are_left_open() -> None:
    asked = left("batchSize", "gradientAccumulation", objective="grpo", reward={"exactMatch": True})
    assert dict(recipe_problems(asked)) == {}
    found = settled(asked).recipe
    assert found.batch_size * found.gradient_accumulation % found.rl.group_size == 0


def test_what_does_not_fit_at_all_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"training.batchSize: not even one row .* \(1.1 GB\)"):
        settled(recipe(), LARGE, machine=Machine(True, GIB, 1))
    long = Lengths([4000] * 10, 400)
    with pytest.raises(InvalidInputError, match=r"training.maxLength: not even one row .* \(1.1 GB\)"):
        settled(left("maxLength"), LARGE, machine=Machine(True, GIB, 1), lengths=long)


def test_auto_may_stand_where_the_number_would() -> None:
    short = TrainingRecipe.model_validate({"learningRate": "auto", "auto": ["batchSize"]})
    assert short.auto == ["batchSize", "learningRate"]
    assert TrainingRecipe.model_validate(short.model_dump(by_alias=True)) == short
    assert dict(recipe_problems(short)) == {}
    assert "remove one of them" in dict(recipe_problems(TrainingRecipe(auto=["batchSize"], batch_size=3)))["batchSize"]


@pytest.mark.parametrize(("learned", "fields", "rank", "alpha", "stable"), [
    (50, {}, 8, 16, False), (10_000, {}, 32, 64, False), (10**6, {}, 64, 16, True),
    (20_000, {"objective": "grpo"}, 8, 16, False), (10**6, {"objective": "reward"}, 256, 16, True),
    (20_000, {"lora": {"targetModules": ["q_proj"]}}, 64, 16, True),
])
def test_the_rank_holds_what_the_rows_teach_and_alpha_follows(
    learned: int, fields: dict[str, Any], rank: int, alpha: int, stable: bool
) -> None:
    """A reward is a bit an answer, few layers hold less, and what is served is at most 64."""
    made = settled(left("lora.rank", **fields), lengths=Lengths([learned], learned))
    lora = made.recipe.lora
    assert (lora.rank, lora.alpha, lora.rs_lora) == (rank, alpha, stable)
    assert made.chosen["lora.rank"].startswith(f"{rank}: the rows have about ")


def test_alpha_that_is_written_stays_and_a_start_says_its_own_shape() -> None:
    written = TrainingRecipe.model_validate({"lora": {"rank": "auto", "alpha": 7}})
    assert written.auto == ["lora.rank"]
    assert settled(written, lengths=Lengths([9], 9)).recipe.lora == LoraRecipe(rank=8, alpha=7)
    gone_on = settled(left("lora.rank"), lengths=Lengths([9], 9), start=LoraRecipe(rank=4, alpha=12, rs_lora=True))
    assert gone_on.recipe.lora == LoraRecipe(rank=4, alpha=12, rs_lora=True)
    assert gone_on.chosen["lora.rank"] == "4: that of the adapter to go on from"


@pytest.mark.parametrize(("longest", "shape", "machine", "length", "why"), [
    (700, SMALL, ROOMY, 704, "the longest row has 700 tokens; 0 of 3 rows are longer"),
    (10_000, SMALL, ROOMY, 8192, "more than the model's context; 1 of 3 rows are longer, and lose what is beyond"),
    (3000, LARGE, Machine(True, 40 * GIB, 1), 1544, "do not fit into memory; 1 of 3 rows are longer"),
    (10_000, SMALL, None, 8192, "more than the model's context"),
])
def test_rows_are_as_long_as_the_longest_where_context_and_memory_hold_it(
    longest: int, shape: ModelShape, machine: Machine | None, length: int, why: str
) -> None:
    asked = left("maxLength", batchSize=2, gradientCheckpointing=False)
    made = settled(asked, shape, machine=machine, lengths=Lengths([10, 50, longest], 30))
    assert made.recipe.max_length == length
    assert why in made.chosen["maxLength"]


def test_an_open_batch_makes_room_for_long_rows() -> None:
    lengths, narrow = Lengths([4000], 30), Machine(True, 50 * GIB, 1)
    made = settled(left("maxLength", "batchSize", "gradientAccumulation"), LARGE, machine=narrow, lengths=lengths)
    assert made.recipe.max_length == 4000
    assert 1 <= made.recipe.batch_size < 16
    assert made.recipe.batch_size * made.recipe.gradient_accumulation == 16


@pytest.mark.parametrize(("rows", "epochs", "every"), [(100, 3, 10), (4000, 3, 38), (10_000, 2, 32), (10**5, 1, 79)])
def test_small_data_is_seen_again_and_long_runs_are_looked_at_less_often(rows: int, epochs: float, every: int) -> None:
    made = settled(left("epochs", "checkpointEverySteps", "validateEverySteps", "batchSize"), rows=rows).recipe
    assert (made.epochs, made.checkpoint_every_steps, made.validate_every_steps) == (epochs, every, every)


def test_a_recipe_with_all_that_can_be_left_open_is_taken_again_from_what_was_told() -> None:
    asked = TrainingRecipe.model_validate({
        name: "auto" for name in AUTO_FIELDS if "." not in name
    } | {"lora": {"rank": "auto", "alpha": "auto"}})
    assert set(asked.auto) == set(AUTO_FIELDS)
    assert dict(recipe_problems(asked)) == {}
    made = settled(asked, LARGE, rows=60_000, lengths=Lengths([3000, 5], 10**5))
    assert made.recipe.lora.rs_lora
    assert asked.taking(made.chosen) == made.recipe
    assert asked.taking({}) == asked


@pytest.mark.parametrize(("fields", "warmup"), [
    ({"objective": "rloo", "rl": {"groupSize": 4}}, 30), ({"objective": "ppo", "rl": {"passes": 2}}, 15),
    ({"objective": "grpo", "rl": {"steps": 200}}, 6),
])
def test_a_run_that_draws_answers_has_steps_by_its_prompts(fields: dict[str, Any], warmup: int) -> None:
    assert settled(left("warmupSteps", **fields), rows=4000).recipe.warmup_steps == warmup


@pytest.mark.parametrize(("fields", "key", "words"), [
    ({"batchSize": "auto", "objective": "grpo", "reward": {"exactMatch": True}}, "batchSize", "leave both open"),
    ({"batchSize": "auto", "gradientAccumulation": "auto", "objective": "rloo", "rl": {"groupSize": 6},
      "reward": {"exactMatch": True}}, "batchSize", "multiple of rl.groupSize, 6"),
    ({"lora": {"rank": "auto"}, "method": "full"}, "lora.rank", "no effect with method: full"),
    ({"auto": ["lora.rank"], "lora": {"rank": 16}}, "lora.rank", "remove one of them"),
    ({"maxLength": "auto", "objective": "pretrain"}, "maxLength", "write the window's tokens"),
])
def test_what_cannot_be_left_open_is_refused_with_what_to_write(fields: dict[str, Any], key: str, words: str) -> None:
    assert words in dict(recipe_problems(TrainingRecipe.model_validate(fields)))[key]
