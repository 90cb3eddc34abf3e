"""When a team shards the model, what of a recipe speaks against it, and how shards are cut and gathered."""

from typing import Any

import pytest

from services.trainer.job.parallel import parallel_for
from shared.errors import InvalidInputError
from shared.estimate import Setup, known_shape, memory
from shared.estimate.fit import needed, together
from shared.recipe import TrainingRecipe
from shared.recipe_checks import recipe_problems

LARGE = known_shape("llama-3.1-8b")
GB = 10**9
TEAM = {"gpu": 4}


def recipe(**fields: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate({"method": "full", **fields})


@pytest.mark.parametrize(("fields", "memory", "processes", "said"), [
    ({}, 80, 1, "one: there is one process"), ({"method": "lora"}, 24, 4, "ddp: each device has room for a copy"),
    ({"method": "full"}, 80, 4, "fsdp: no device has room for a copy in 80 GB"),
    ({"method": "lora"}, 16, 4, "ddp: no device has room for a copy, but it cannot be sharded: training.method: lora"),
    ({"objective": "dpo"}, 24, 4, "ddp: no device has room for a copy, but it cannot be sharded: training.objective"),
    ({"distributed": "fsdp"}, 80, 4, "fsdp: the recipe says so"), ({"distributed": "ddp"}, 24, 4, "ddp: the recipe"),
    ({"batch_size": 64, "max_length": 4096}, 160, 4, "fsdp: no device"),
    ({"batch_size": 64, "auto": ["batchSize"], "max_length": 4096}, 160, 4, "ddp: each device has room"),
])
def test_a_model_is_sharded_where_no_device_has_room_for_a_copy(
    fields: dict[str, Any], memory: int, processes: int, said: str
) -> None:
    found = parallel_for(recipe(**fields), LARGE, gpu=True, memory=memory * GB, processes=processes)
    assert str(found).startswith(said)
    assert found.shards == (processes if found.how == "fsdp" else 1)


def test_a_model_that_the_estimator_does_not_know_is_copied() -> None:
    assert parallel_for(recipe(), None, gpu=True, memory=GB, processes=2).how == "ddp"


@pytest.mark.parametrize(("fields", "key", "said"), [
    ({"method": "qlora"}, "method", "weights in 4 bits cannot be cut; train with full"),
    ({"objective": "kto"}, "objective", "kto needs other models or answers"),
    ({"optimizer": "paged_adamw_8bit"}, "optimizer", "the states of paged_adamw_8bit"),
    ({"forgetting": {"l2": {"strength": 1}}}, "forgetting.l2", "whole weights, and not on shards"),
    ({"forgetting": {"gradualUnfreezing": {"stepsPerStage": 2}}}, "forgetting.gradualUnfreezing", "whole weights"),
])
def test_what_cannot_be_sharded_is_refused_at_the_door_and_by_the_job(
    fields: dict[str, Any], key: str, said: str
) -> None:
    asked = recipe(distributed="fsdp", resources=TEAM, **fields)
    ((found, why),) = recipe_problems(asked)
    assert (found, said in why) == (key, True), why
    assert why.endswith("or write distributed: ddp")
    with pytest.raises(InvalidInputError, match=rf"training.{key}: .*, or write training.distributed: ddp"):
        parallel_for(asked, LARGE, gpu=True, memory=80 * GB, processes=4)


def test_one_process_has_nothing_to_share() -> None:
    ((key, why),) = recipe_problems(recipe(distributed="fsdp", resources={"gpu": 1}))
    assert (key, "raise resources.gpu" in why) == ("distributed", True)
    assert list(recipe_problems(recipe(distributed="fsdp", resources=TEAM))) == []
    assert list(recipe_problems(recipe(distributed="ddp", resources={"gpu": 1, "nodes": 2}))) == []


def test_shards_divide_what_is_trained_and_leave_what_is_whole_for_a_while() -> None:
    whole, cut = (memory(LARGE, Setup(method="full", shards=shards)) for shards in (1, 8))
    assert (cut.weights, cut.gradients, cut.optimizer) == (
        whole.weights // 8, whole.gradients // 8, whole.optimizer // 8
    )
    assert (whole.gathered, cut.activations) == (0, whole.activations)
    # The output layer, and two blocks with their gradients, in float32.
    block = LARGE.linear_parameters // LARGE.layers
    assert cut.gathered == 4 * (LARGE.embedding_parameters + 4 * block)


def test_remedies_of_what_is_sharded_can_be_sharded() -> None:
    setup = Setup(method="full", shards=8, micro_batch=64, sequence_length=4096)
    found = together(LARGE, setup, needed(LARGE, setup) // 3)
    assert found
    assert all(item.setup.method == "full" and item.setup.shards == 8 for item in found)
    with pytest.raises(ValueError, match="FSDP cuts models of full"):
        Setup(method="qlora", shards=2)
