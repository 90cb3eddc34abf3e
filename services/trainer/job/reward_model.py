"""The reward model that a recipe names, from the store."""

import re
from pathlib import Path

from transformers import AutoTokenizer

from services.trainer.files import Result
from services.trainer.job.base import fetch_base, parameters_of
from services.trainer.job.rewards import Rewards
from shared.errors import IntegrityError, InvalidInputError, NotFoundError
from shared.events import ArtifactRef
from shared.recipe import TrainingRecipe
from shared.reward_models import KIND, load_reward_model
from shared.rl import RewardRecipe
from shared.s3 import ArtifactStore

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def load_rewards(
    recipe: TrainingRecipe, judge: ArtifactRef | None, store: ArtifactStore, cache_dir: Path, scratch: Path
) -> Rewards | None:
    """What a recipe rewards, with its reward model from the store; None for objectives that reward nothing.

    Args:
        judge: the reward model, where its name was looked up already.

    Raises:
        InvalidInputError: what the recipe names is no reward model.
        NotFoundError: it is not there.
    """
    if recipe.reward is None:
        return None
    if recipe.reward.model is None:
        return Rewards(recipe)
    ref = judge or find_reward_model(store, recipe.reward.model)
    meta = store.get_dir(ref, scratch / "reward-model").meta
    digest, base = fetch_base(store, str(meta["base_model"]), cache_dir)
    if digest != meta["base_model_digest"]:
        raise IntegrityError(
            f"training.reward.model: {recipe.reward.model} was trained on another {meta['base_model']} than is in S3 "
            f"now ({meta['base_model_digest']}, and not {digest}); train the reward model again"
        )
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    return Rewards(recipe, load_reward_model(scratch / "reward-model", base, tokenizer), ref.digest)


def reward_parameters(
    store: ArtifactStore, reward: RewardRecipe | None, judge: ArtifactRef | None, cache_dir: Path
) -> int:
    """How many weights the reward model of a recipe has, without its adapter; 0 without one, and where its base's shape
    is not known.

    Raises:
        InvalidInputError, NotFoundError: as `load_rewards`.
    """
    if reward is None or reward.model is None:
        return 0
    ref = judge or find_reward_model(store, reward.model)
    manifest = store.manifest(ref.uri)
    if manifest is None:
        raise NotFoundError(f"training.reward.model: {reward.model} is not in S3: there is no {ref.uri}manifest.json")
    _, base = fetch_base(store, str(manifest.meta["base_model"]), cache_dir)
    return parameters_of(base)


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
