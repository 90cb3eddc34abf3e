"""The reward of an answer: a reward model's score, and checks that give 1 or 0, weighted and added."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from shared.errors import InvalidInputError
from shared.prompts import Message
from shared.recipe import TrainingRecipe
from shared.rl import RewardRecipe

if TYPE_CHECKING:
    from shared.reward_models import RewardModel


class Rewards:
    """Rewards answers as a recipe says.

    Args:
        model: the reward model, where the recipe names one.
        digest: of its artifact.

    Raises:
        InvalidInputError: the JSON schema is none.
    """

    def __init__(self, recipe: TrainingRecipe, model: "RewardModel | None" = None, digest: str | None = None) -> None:
        if recipe.reward is None:
            raise InvalidInputError("training.reward: nothing is rewarded; name a reward model or a check")
        self._reward, self._model, self.digest = recipe.reward, model, digest
        self._batch_size, self._max_length = recipe.batch_size, recipe.max_length
        self._schema = None if self._reward.json_schema is None else _validator(self._reward.json_schema)

    def to(self, device: Any) -> "Rewards":
        """Move the reward model; itself."""
        if self._model is not None:
            self._model.to(device)
        return self

    def parts(
        self, prompts: Sequence[Sequence[Message]], answers: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[float]]:
        """Each part's weighted reward of each answer, by the part's name.

        Args:
            prompts: conversations that the answers follow.
            references: the rows' own answers.
        """
        found: dict[str, list[float]] = {}
        if self._model is not None:
            found["model"] = self._model.score(
                [[*prompt, {"role": "assistant", "content": answer}]
                 for prompt, answer in zip(prompts, answers, strict=True)],
                batch_size=self._batch_size, max_length=self._max_length,
            )
        if self._reward.exact_match:
            found["exact_match"] = [
                float(answer.strip() == reference.strip())
                for answer, reference in zip(answers, references, strict=True)
            ]
        if self._schema is not None:
            found["json_schema"] = [float(fits_schema(answer, self._schema)) for answer in answers]
        if self._reward.bounds_length:
            found["length"] = [float(fits_length(answer, self._reward)) for answer in answers]
        weights = self._reward.weights
        return {name: [getattr(weights, name) * value for value in values] for name, values in found.items()}


def fits_length(answer: str, reward: RewardRecipe) -> bool:
    """Whether the answer is as long as the recipe wants, in characters."""
    low, high = reward.min_characters or 0, reward.max_characters
    return low <= len(answer) and (high is None or len(answer) <= high)


def fits_schema(answer: str, schema: Any) -> bool:
    """Whether the answer is JSON that a validator of jsonschema_rs takes."""
    try:
        return bool(schema.is_valid(json.loads(answer)))
    except (ValueError, RecursionError):
        return False


def _validator(schema: Mapping[str, Any]) -> Any:
    try:
        return jsonschema_rs.validator_for(dict(schema))
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise InvalidInputError(f"training.reward.jsonSchema is no JSON schema: {error}") from error
