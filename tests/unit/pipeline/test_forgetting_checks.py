"""What cannot keep a model from forgetting is refused with the remedy."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.recipe import TrainingRecipe
from shared.recipe_checks import recipe_problems

DATASET = "s3://tuneloop/references/general/"


def problems(**recipe: Any) -> dict[str, str]:
    return dict(recipe_problems(TrainingRecipe.model_validate(recipe)))


@pytest.mark.parametrize("recipe", [
    {"forgetting": {"replay": {}}},
    {"startFrom": "production", "forgetting": {"ewc": {}, "replay": {"share": 0.3}, "l2": {"strength": 2}}},
    {"startFrom": "intents@3", "objective": "dpo", "forgetting": {"l2": {}}},
    {"startFrom": "sha256:" + "1" * 64, "forgetting": {"earlier": "sha256:" + "2" * 64, "ewc": {}}},
    {"objective": "pretrain", "method": "full", "forgetting": {"l2": {}}},
    {"method": "full", "forgetting": {"l2": {}, "gradualUnfreezing": {"stepsPerStage": 5}}},
    {"method": "full", "forgetting": {"ewc": {}, "earlier": DATASET}},
    {"method": "adapter", "forgetting": {"gradualUnfreezing": {"stepsPerStage": 5, "layersPerStage": 2}}},
    {"method": "prompt", "startFrom": "production", "forgetting": {"ewc": {}}},
])
def test_what_makes_sense_passes(recipe: dict[str, Any]) -> None:
    assert problems(**recipe) == {}


@pytest.mark.parametrize(("recipe", "key", "remedy"), [
    ({"forgetting": {"ewc": {}}}, "forgetting.ewc", "add startFrom: production, or train with method: full"),
    ({"forgetting": {"l2": {}}}, "forgetting.l2", "add startFrom: production"),
    ({"method": "full", "forgetting": {"ewc": {}}}, "forgetting.earlier", "name a dataset of what the base does well"),
    ({"method": "full", "startFrom": "production"}, "startFrom", "name that as spec.baseModel"),
    ({"method": "adapter", "objective": "dpo", "startFrom": "production"}, "startFrom", "train with lora"),
    ({"objective": "pretrain", "forgetting": {"replay": {}}}, "forgetting.replay", "by l2 instead"),
    ({"multiTask": {}, "forgetting": {"replay": {}}}, "forgetting.replay", "as a task beside the others"),
    ({"objective": "reward", "startFrom": "production", "forgetting": {"ewc": {}}}, "forgetting.ewc", "by l2 instead"),
    ({"forgetting": {"earlier": DATASET}}, "forgetting.earlier", "without replay and ewc"),
    ({"method": "prefix", "forgetting": {"gradualUnfreezing": {"stepsPerStage": 5}}},
     "forgetting.gradualUnfreezing", "train with lora"),
])
def test_what_does_not_is_named_with_its_remedy(recipe: dict[str, Any], key: str, remedy: str) -> None:
    assert remedy in problems(**recipe)[key]


@pytest.mark.parametrize("recipe", [
    {"startFrom": "latest"}, {"startFrom": "intents@0"}, {"forgetting": {"earlier": "s3://bucket/no-folder"}},
    {"forgetting": {"replay": {"share": 1}}}, {"forgetting": {"replay": {"share": 0}}},
    {"forgetting": {"ewc": {"strength": 0}}}, {"forgetting": {"ewc": {"rows": 0}}},
    {"forgetting": {"gradualUnfreezing": {}}}, {"forgetting": {"gradualUnfreezing": {"stepsPerStage": 0}}},
    {"forgetting": {"rehearsal": {}}},
])
def test_other_values_are_no_recipe(recipe: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingRecipe.model_validate(recipe)
