"""What a run learns from beside its dataset: an adapter to go on from, and a dataset version of an earlier task.

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
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore


class Sources(BaseModel):
    """What was found. None where the recipe wants none, or where nothing is in production yet."""

    model_config = ConfigDict(frozen=True)

    start: ArtifactRef | None = None
    earlier: ArtifactRef | None = None


def find(
    engine: Engine, store: ArtifactStore, *, pipeline: str, base_model: str, recipe: TrainingRecipe
) -> Sources:
    """What the recipe of a pipeline's run names, as it is now.

    Raises:
        NotFoundError: it is neither known here nor in S3.
        InvalidInputError: it is an adapter of another base model.
    """
    wanted, forgetting = recipe.start_from, recipe.forgetting
    with reading(engine) as session:
        production = _in_production(session, pipeline)
        named = session.get(ModelVersion, wanted) if wanted and "@" in wanted else None
    start = earlier = None
    if wanted is not None and wanted.startswith("sha256:"):
        start = _artifact(store, wanted, "adapters", "training.startFrom")
    elif wanted is not None:
        start = _adapter(wanted, production if wanted == PRODUCTION else _model(named), base_model)
    if forgetting.needs_earlier and forgetting.earlier != PRODUCTION:
        earlier = _artifact(store, forgetting.earlier, "datasets", "training.forgetting.earlier")
    elif forgetting.needs_earlier and production is not None:
        earlier = production.dataset.artifact
    elif forgetting.needs_earlier and start is not None:
        raise NotFoundError("training.forgetting.earlier: nothing is in production, whose rows could be the earlier "
                            "task; name the dataset that training.startFrom was trained on")
    return Sources(start=start, earlier=earlier)


def _in_production(session: Session, pipeline: str) -> ModelRef | None:
    """The pipeline's version that entered production last, and has not left it."""
    inside = select(ModelVersion).where(ModelVersion.pipeline == pipeline, ModelVersion.stage == "production")
    return _model(session.exec(inside.order_by(col(ModelVersion.since).desc())).first())


def _model(row: ModelVersion | None) -> ModelRef | None:
    return None if row is None else ModelRef.model_validate(row.model)


def _adapter(wanted: str, model: ModelRef | None, base_model: str) -> ArtifactRef | None:
    if model is None:
        if wanted == PRODUCTION:
            return None
        raise NotFoundError(f"training.startFrom: no model version {wanted} is known here; `tuneloop models list` "
                            "shows those that exist")
    if model.base_model != base_model:
        raise InvalidInputError(
            f"training.startFrom: {model.model_version} is an adapter of {model.base_model}, and the pipeline is for "
            f"{base_model}; name one of that, or remove startFrom"
        )
    return model.artifact


def _artifact(store: ArtifactStore, wanted: str, kind: str, key: str) -> ArtifactRef:
    """An artifact by its digest, or by its folder in S3."""
    uri = wanted if wanted.startswith("s3://") else f"s3://{store.bucket}/{kind}/{wanted.removeprefix('sha256:')}/"
    manifest = store.manifest(uri)
    if manifest is None:
        raise NotFoundError(f"{key}: there is no {uri}manifest.json in S3; name one of the {kind} that are there")
    return ArtifactRef(uri=uri, digest=manifest.digest)
