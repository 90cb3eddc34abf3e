"""The reward of an answer: a reward model's score, and checks that give 1 or 0, weighted and added."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
from transformers import AutoTokenizer

from services.trainer.files import Result
from services.trainer.job.base import fetch_base
from shared.errors import IntegrityError, InvalidInputError, NotFoundError
from shared.events import ArtifactRef
from shared.prompts import Message
from shared.recipe import TrainingRecipe
from shared.reward_models import KIND, RewardModel, load_reward_model
from shared.rl import RewardRecipe
from shared.s3 import ArtifactStore

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Rewards:
    """Rewards answers as a recipe says.

    Args:
        model: the reward model, where the recipe names one.
        digest: of its artifact.

    Raises:
        InvalidInputError: the JSON schema is none.
    """

    def __init__(self, recipe: TrainingRecipe, model: RewardModel | None = None, digest: str | None = None) -> None:
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


def load_rewards(recipe: TrainingRecipe, store: ArtifactStore, cache_dir: Path, scratch: Path) -> Rewards | None:
    """What a recipe rewards, with its reward model from the store; None for objectives that reward nothing.

    Raises:
        InvalidInputError: what the recipe names is no reward model.
        NotFoundError: it is not there.
    """
    if recipe.reward is None:
        return None
    if recipe.reward.model is None:
        return Rewards(recipe)
    ref = find_reward_model(store, recipe.reward.model)
    meta = store.get_dir(ref, scratch / "reward-model").meta
    digest, base = fetch_base(store, str(meta["base_model"]), cache_dir)
    if digest != meta["base_model_digest"]:
        raise IntegrityError(
            f"training.reward.model: {recipe.reward.model} was trained on another {meta['base_model']} than is in S3 "
            f"now ({meta['base_model_digest']}, and not {digest}); train the reward model again"
        )
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    return Rewards(recipe, load_reward_model(scratch / "reward-model", base, tokenizer), ref.digest)


def find_reward_model(store: ArtifactStore, name: str) -> ArtifactRef:
    """The artifact of a reward model that is named by its digest, or by the run that trained it.

    Raises:
        InvalidInputError: the run trained something else.
        NotFoundError: there is no such artifact, or no such run that has ended.
    """
    given = _DIGEST.fullmatch(name)
    if given:
        ref = ArtifactRef(uri=f"s3://{store.bucket}/{KIND}/{given[1]}/", digest=name)
        if store.manifest(ref.uri) is None:
            raise NotFoundError(f"training.reward.model: no reward model {name} is in S3 (below {KIND}/)")
        return ref
    for attempt in store.list_prefixes(f"runs/{name}/"):
        if store.exists(f"{attempt}result.json"):
            found = Result.model_validate_json(store.get_bytes(f"{attempt}result.json")).adapter
            if f"/{KIND}/" not in found.uri:
                raise InvalidInputError(
                    f"training.reward.model: the run {name} trained no reward model; name a run of a pipeline with "
                    "training.objective: reward"
                )
            return found
    raise NotFoundError(
        f"training.reward.model: no run {name} has left a result in S3; write the id of a completed run "
        "(`tuneloop runs list`), or the digest of its artifact"
    )
