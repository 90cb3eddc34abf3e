"""What a run learns from beside its dataset: an adapter to go on from, a dataset version of an earlier task, and a
reward model.

Recipes name them in words that may mean another thing tomorrow. So they are looked up once, before the first attempt,
and kept with the run by digest: all its attempts begin from the same.
"""

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from services.trainer.models import ModelVersion
from shared.db import reading
from shared.errors import InvalidInputError, NotFoundError
from shared.events import ArtifactRef, ModelRef
from shared.forgetting import PRODUCTION
from shared.recipe import ArtifactKind, TrainingRecipe
from shared.s3 import ArtifactStore

_START = "training.startFrom"
_ADAPTER: ArtifactKind = "adapters"
_REWARD: ArtifactKind = "reward-models"
_MAKERS: dict[ArtifactKind, str] = {
    _ADAPTER: "that trains adapters: another objective than reward, neither full nor merge",
    _REWARD: "with training.objective: reward",
}


class Sources(BaseModel):
    """What was found. None where the recipe wants none, or where nothing is in production yet."""

    model_config = ConfigDict(frozen=True)

    start: ArtifactRef | None = None
    earlier: ArtifactRef | None = None
    judge: ArtifactRef | None = None


def needed(recipe: TrainingRecipe) -> bool:
    """Whether a recipe names anything that is looked up here."""
    return recipe.start_from is not None or recipe.forgetting.needs_earlier or _judge(recipe) is not None


def find(
    engine: Engine, store: ArtifactStore, *, pipeline: str, base_model: str, recipe: TrainingRecipe
) -> Sources:
    """What the recipe of a pipeline's run names, as it is now.

    Raises:
        NotFoundError: it is neither known here nor in S3.
        InvalidInputError: it is of another base model, or of another kind.
    """
    wanted, scores, forgetting = recipe.start_from, _judge(recipe), recipe.forgetting
    with reading(engine) as session:
        production = _in_production(session, pipeline)
        named, judge = (_version(session, name) for name in (wanted, scores))
    start = earlier = None
    kind = _REWARD if recipe.objective == "reward" else _ADAPTER
    if wanted is not None and wanted.startswith("sha256:"):
        start = _artifact(store, wanted, kind, _START)
    elif wanted is not None and (wanted != PRODUCTION or production is not None):
        start = _start(wanted, production if wanted == PRODUCTION else named, kind, base_model)
    if forgetting.needs_earlier and forgetting.earlier != PRODUCTION:
        earlier = _artifact(store, forgetting.earlier, "datasets", "training.forgetting.earlier")
    elif forgetting.needs_earlier and production is not None:
        earlier = production.dataset.artifact
    elif forgetting.needs_earlier and start is not None:
        raise NotFoundError("training.forgetting.earlier: nothing is in production, whose rows could be the earlier "
                            "task; name the dataset that training.startFrom was trained on")
    scoring = _of_kind(scores, judge, _REWARD, "training.reward.model") if scores else None
    return Sources(start=start, earlier=earlier, judge=scoring)


def _judge(recipe: TrainingRecipe) -> str | None:
    """The model version whose scores a recipe rewards. Runs and digests say themselves where their artifact is."""
    named = recipe.reward.model if recipe.reward else None
    return named if named and "@" in named else None


def _in_production(session: Session, pipeline: str) -> ModelRef | None:
    """The pipeline's version that entered production last, and has not left it."""
    inside = select(ModelVersion).where(ModelVersion.pipeline == pipeline, ModelVersion.stage == "production")
    return _model(session.exec(inside.order_by(col(ModelVersion.since).desc())).first())


def _version(session: Session, name: str | None) -> ModelRef | None:
    return _model(session.get(ModelVersion, name)) if name and "@" in name else None


def _model(row: ModelVersion | None) -> ModelRef | None:
    return None if row is None else ModelRef.model_validate(row.model)


def _start(wanted: str, model: ModelRef | None, kind: ArtifactKind, base_model: str) -> ArtifactRef:
    artifact = _of_kind(wanted, model, kind, _START)
    if model is not None and model.base_model != base_model:
        raise InvalidInputError(
            f"{_START}: {model.model_version} is an adapter of {model.base_model}, and the pipeline is for "
            f"{base_model}; name one of that, or remove startFrom"
        )
    return artifact


def _of_kind(wanted: str, model: ModelRef | None, kind: ArtifactKind, key: str) -> ArtifactRef:
    """The artifact of a model version, which is of this kind."""
    if model is None:
        raise NotFoundError(f"{key}: no model version {wanted} is known here; `tuneloop models list` shows those that "
                            "exist")
    if f"/{kind}/" not in model.artifact.uri:
        raise InvalidInputError(f"{key}: {model.model_version} is none of the {kind}, but {model.artifact.uri}; name "
                                f"a version of a pipeline {_MAKERS[kind]}")
    return model.artifact


def _artifact(store: ArtifactStore, wanted: str, kind: str, key: str) -> ArtifactRef:
    """An artifact by its digest, or by its folder in S3."""
    uri = wanted if wanted.startswith("s3://") else f"s3://{store.bucket}/{kind}/{wanted.removeprefix('sha256:')}/"
    manifest = store.manifest(uri)
    if manifest is None:
        raise NotFoundError(f"{key}: there is no {uri}manifest.json in S3; name one of the {kind} that are there")
    return ArtifactRef(uri=uri, digest=manifest.digest)
