"""Advice and estimates over HTTP, also for base models whose shape only the store knows."""

import json

from fastapi import APIRouter

from services.trainer.settings import TrainerSettings
from shared.advice import Advice, AdviceRequest, advise
from shared.errors import InvalidInputError, NotFoundError
from shared.estimate import EstimateAnswer, EstimateRequest, ModelShape, estimate, is_known, known_shape, shape_of
from shared.s3 import ArtifactStore
from shared.service import Runtime


def advice_router(runtime: Runtime[TrainerSettings]) -> APIRouter:
    """The routes, over the runtime's store."""
    router = APIRouter(prefix="/v1", tags=["advice"])

    @router.post("/estimates")
    def post_estimate(request: EstimateRequest) -> EstimateAnswer:
        """Memory and time of a training run, and what it fits on."""
        return estimate(shape_for(request.model, request.config, runtime.store), request)

    @router.post("/advice")
    def post_advice(request: AdviceRequest) -> Advice:
        """Prompting, retrieval, fine-tuning or a hybrid; and for a model the recipe, with its estimate."""
        named = request.model is not None or request.config is not None
        return advise(request, shape_for(request.model, request.config, runtime.store) if named else None)

    return router


def shape_for(model: str | None, config: dict[str, object] | None, store: ArtifactStore) -> ModelShape:
    """The shape of a named model or of a ``config.json``'s content.

    Raises:
        InvalidInputError: neither or both were given, or the content is no model's.
        NotFoundError: neither the store nor the built-in list knows the name.
    """
    if (model is None) == (config is None):
        raise InvalidInputError("give either model or config")
    if config is not None:
        return shape_of(config)
    name = str(model)
    # The store first: what is trained on is what is there, whatever the name says.
    try:
        content = store.get_bytes(f"s3://{store.bucket}/base-models/{name}/config.json")
    except NotFoundError:
        if is_known(name):
            return known_shape(name)
        raise NotFoundError(
            f"{name} is neither a base model in the store ({store.bucket}/base-models/) nor one whose shape is built in"
        ) from None
    return shape_of(json.loads(content))
