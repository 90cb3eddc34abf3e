"""Memory that is not there, foreseen from the model's config."""

import json
from pathlib import Path

import pytest

from services.trainer.job.room import check_room
from shared.errors import InvalidInputError
from shared.estimate import Others
from shared.recipe import TrainingRecipe

# Llama 3.1 8B's.
CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
    "tie_word_embeddings": False, "hidden_act": "silu",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    return file


def test_what_cannot_fit_is_refused_with_what_would(config: Path) -> None:
    recipe = TrainingRecipe(batch_size=16, max_length=4096)
    with pytest.raises(InvalidInputError, match=r"out of memory, foreseen .* 16 rows of up to 4096 tokens needs about "
                       r".* GB, and there are 24\. It fits with .*(qlora|batchSize: 1)"):
        check_room(config, recipe, 9000, gpu=True, memory=24 * 10**9)
    with pytest.raises(InvalidInputError, match=r"there are 1\. No change of the recipe makes it fit; or train on"):
        check_room(config, recipe, 9000, gpu=True, memory=10**9)
    check_room(config, recipe, 9000, gpu=True, memory=10**12)


def test_rows_count_as_long_as_they_are_and_not_as_they_may_be(config: Path) -> None:
    recipe = TrainingRecipe(batch_size=16, max_length=4096)
    check_room(config, recipe, 60, gpu=True, memory=45 * 10**9)
    with pytest.raises(InvalidInputError):
        check_room(config, recipe, 4096, gpu=True, memory=45 * 10**9)


def test_other_models_and_drawn_answers_take_room(config: Path) -> None:
    recipe = TrainingRecipe.model_validate({
        "objective": "grpo", "batchSize": 8, "maxLength": 512, "reward": {"model": "judge@1"}, "rl": {"groupSize": 8},
    })
    check_room(config, recipe, 500, gpu=True, memory=24 * 10**9)
    with pytest.raises(InvalidInputError, match="out of memory"):
        check_room(config, recipe, 500, gpu=True, memory=24 * 10**9, others=Others(judge=8 * 10**9))
    many = recipe.model_copy(update={"gradient_accumulation": 512})
    with pytest.raises(InvalidInputError, match="out of memory"):
        check_room(config, many, 500, gpu=True, memory=24 * 10**9)


def test_a_model_that_the_estimator_does_not_know_is_tried(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "of its own kind"}')
    check_room(tmp_path / "config.json", TrainingRecipe(), 60, gpu=False, memory=1)
