"""The reward model that a recipe names, from the store."""

import re
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from services.trainer.files import Result
from services.trainer.job.base import fetch_base, parameters_of
from services.trainer.job.rewards import Rewards
from shared.errors import IntegrityError, InvalidInputError, NotFoundError
from shared.events import ArtifactRef
from shared.recipe import TrainingRecipe
from shared.reward_models import KIND, load_reward_model
from shared.s3 import ArtifactStore

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Judge:
    """A reward model that was found, and the folder of its base."""

    ref: ArtifactRef
    base: Path

    @property
    def parameters(self) -> int:
        """Its weights, without its adapter; 0 where its base's shape is not known."""
        return parameters_of(self.base)


def find_judge(
    recipe: TrainingRecipe, named: ArtifactRef | None, store: ArtifactStore, cache_dir: Path
) -> Judge | None:
    """The reward model that a recipe names; None where it names none.

    Args:
        named: the reward model, where its name was looked up already.

    Raises:
        InvalidInputError: what the recipe names is no reward model.
        IntegrityError: its base is another one now.
        NotFoundError: it is not there.
    """
    if recipe.reward is None or recipe.reward.model is None:
        return None
    name = recipe.reward.model
    ref = named or find_reward_model(store, name)
    manifest = store.manifest(ref.uri)
    if manifest is None:
        raise NotFoundError(f"training.reward.model: {name} is not in S3: there is no {ref.uri}manifest.json")
    meta = manifest.meta
    digest, base = fetch_base(store, str(meta["base_model"]), cache_dir)
    if digest != meta["base_model_digest"]:
        raise IntegrityError(
            f"training.reward.model: {name} was trained on another {meta['base_model']} than is in S3 "
            f"now ({meta['base_model_digest']}, and not {digest}); train the reward model again"
        )
    return Judge(ref, base)


def load_rewards(recipe: TrainingRecipe, judge: Judge | None, store: ArtifactStore, scratch: Path) -> Rewards | None:
    """What a recipe rewards, with its reward model from the store; None for objectives that reward nothing."""
    if recipe.reward is None:
        return None
    if judge is None:
        return Rewards(recipe)
    store.get_dir(judge.ref, scratch / "reward-model")
    tokenizer = AutoTokenizer.from_pretrained(judge.base, local_files_only=True, trust_remote_code=False)
    return Rewards(recipe, load_reward_model(scratch / "reward-model", judge.base, tokenizer), judge.ref.digest)


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
