"""What answers are rewarded for, which prompts are drawn, and when a run has left its base."""

from typing import Any

import jsonschema_rs
import pytest

from services.trainer.job.rewards import Rewards, fits_length, fits_schema
from services.trainer.job.rl_steps import check_departure, drawn
from shared.errors import InvalidInputError, PermanentError
from shared.recipe import TrainingRecipe
from shared.recipe_checks import recipe_problems
from shared.rl import RewardRecipe

PROMPT = [{"role": "user", "content": "2+2?"}]


def recipe(**changes: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate({"objective": "grpo", **changes})


def test_checks_give_one_or_zero_times_their_weight() -> None:
    rewards = Rewards(recipe(reward={
        "exactMatch": True, "jsonSchema": {"type": "integer"}, "maxCharacters": 2,
        "weights": {"exactMatch": 2, "length": 0.5},
    }))
    answers = [" 4\n", "four", "[", "5"]
    assert rewards.parts([PROMPT] * 4, answers, ["4"] * 4) == {
        "exact_match": [2.0, 0.0, 0.0, 0.0], "json_schema": [1.0, 0.0, 0.0, 1.0], "length": [0.0, 0.0, 0.5, 0.5],
    }


def test_json_is_what_fits_the_schema() -> None:
    schema = jsonschema_rs.validator_for({"type": "object", "required": ["intent"]})
    assert fits_schema('{"intent": "refund"}', schema)
    for answer in ("{}", '"intent"', "", "{", "[" * 100_000):
        assert not fits_schema(answer, schema)
    with pytest.raises(InvalidInputError, match=r"training.reward.jsonSchema is no JSON schema"):
        Rewards(recipe(reward={"jsonSchema": {"type": "text"}}))


def test_bounds_of_length_include_their_ends() -> None:
    both = RewardRecipe(min_characters=2, max_characters=3)
    assert [fits_length("x" * size, both) for size in range(1, 5)] == [False, True, True, False]
    assert fits_length("", RewardRecipe(max_characters=1))
    assert not fits_length("", RewardRecipe(min_characters=1))


def test_each_epoch_asks_every_prompt_once_in_another_order() -> None:
    order = drawn(8, 2, recipe(epochs=2))
    assert sorted(order[:8]) == sorted(order[8:]) == list(range(8))
    assert order[:8] != order[8:]
    assert order == drawn(8, 2, recipe(epochs=2))
    assert len(drawn(8, 2, recipe(rl={"steps": 7}))) == 14
    assert len(drawn(1, 4, recipe())) == 4, "too few prompts for a step are asked again"


def test_departures_end_a_run() -> None:
    check_departure(2.0, 2.0, 3)
    for kl in (2.1, float("nan"), float("inf")):
        with pytest.raises(PermanentError, match=r"at step 3 .* training.rl.maxKl is 2: .* training.rl.klCoefficient"):
            check_departure(kl, 2.0, 3)


@pytest.mark.parametrize(("changes", "key", "remedy"), [
    ({"objective": "sft"}, "reward", "train with grpo"),
    ({"objective": "sft", "reward": None, "rl": {"clip": 0.1}}, "rl", "train with grpo"),
    ({"reward": None}, "reward", "exactMatch: true"),
    ({"reward": {}}, "reward", "nothing is rewarded"),
    ({"reward": {"model": "answers@latest"}}, "reward.model", "is no model version; write NAME@NUMBER"),
    ({"reward": {"minCharacters": 3, "maxCharacters": 2}}, "reward.minCharacters", "no answer could have both"),
    ({"reward": {"exactMatch": True, "weights": {"model": 2}}}, "reward.weights.model", "name the reward"),
    ({"batchSize": 12}, "batchSize", "write multiples"),
    ({"rl": {"gaeLambda": 0.5}}, "rl.gaeLambda", "train with ppo"),
    ({"objective": "ppo", "rl": {"groupSize": 4}}, "rl.groupSize", "remove it"),
    ({"objective": "ppo", "rl": {"klTarget": 6, "klCoefficient": 0}}, "rl.klTarget", "0 stays 0"),
    ({"lora": {"dropout": 0.1}}, "lora.dropout", "remove it"),
    ({"method": "prefix"}, "method", "another method than prefix and prompt"),
    ({"maxLength": 64}, "rl.maxNewTokens", "lower this"),
])
def test_what_makes_no_sense_is_refused_with_its_remedy(changes: dict[str, Any], key: str, remedy: str) -> None:
    given = TrainingRecipe.model_validate({"objective": "grpo", "reward": {"exactMatch": True}, **changes})
    assert remedy in dict(recipe_problems(given))[key]


def test_what_makes_sense_passes() -> None:
    for objective in ("grpo", "rloo", "ppo"):
        assert not list(recipe_problems(recipe(objective=objective, reward={"model": "judge", "minCharacters": 2})))
