"""Base models, from S3."""

import json
from pathlib import Path

from shared.errors import InvalidInputError, NotFoundError
from shared.estimate import ModelShape, shape_of
from shared.events import ArtifactRef
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from shared.s3.bases import cached_base
from shared.telemetry import get_logger

log = get_logger(__name__)


def fetch_base(store: ArtifactStore, name: str, cache_dir: Path, *, key: str = "baseModel") -> tuple[str, Path]:
    """The digest and the local folder of a base model, kept between runs under its digest.

    Args:
        key: of the pipeline's spec, that names it.

    Raises:
        NotFoundError: there is no such base model in S3.
    """
    uri = f"s3://{store.bucket}/base-models/{name}/"
    manifest = store.manifest(uri)
    if manifest is None:
        raise NotFoundError(f"the base model {name} is not in S3: there is no {uri}manifest.json. Put it there, or "
                            f"correct spec.{key}")
    return manifest.digest, cached_base(store, ArtifactRef(uri=uri, digest=manifest.digest), cache_dir)


def shape_for(folder: Path, recipe: TrainingRecipe) -> ModelShape | None:
    """Of the base model in a folder; None where the estimator does not know its family, and nothing needs it.

    Raises:
        InvalidInputError: the recipe leaves something open that follows from it.
    """
    try:
        return shape_of(json.loads((folder / "config.json").read_bytes()))
    except InvalidInputError as error:
        if recipe.auto:
            raise InvalidInputError(f"training.auto: {error}; give {', '.join(recipe.auto)} as numbers") from error
        return None


def parameters_of(folder: Path) -> int:
    """How many weights the base model of a folder has; 0 where the estimator does not know its family."""
    try:
        return shape_of(json.loads((folder / "config.json").read_bytes())).parameters
    except InvalidInputError as error:
        log.info("the memory of this model cannot be estimated", model=str(folder), reason=str(error))
        return 0
