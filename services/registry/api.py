"""The registry's HTTP API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlmodel import select

from services.registry import metrics, queries
from services.registry.checklist import Checklist
from services.registry.models import Dataset, Evaluation, ModelVersion, PipelineRow, Run
from services.registry.pipelines import apply_pipeline
from services.registry.settings import RegistrySettings
from services.registry.views import (
    AppliedView,
    DatasetView,
    EvaluationView,
    LineageView,
    ModelView,
    Page,
    PipelineSummary,
    PipelineView,
    RunView,
)
from shared.db import reading, transaction
from shared.errors import InvalidInputError
from shared.events import Stage
from shared.pipeline import parse_pipeline
from shared.recipe_checks import serving_problems
from shared.service import Runtime

MAX_SPEC_BYTES = 1_000_000
_YAML_BODY = {"requestBody": {"required": True, "content": {"application/yaml": {"schema": {"type": "string"}}}}}

class Paging:
    """The query parameters of every list."""

    def __init__(
        self,
        limit: Annotated[int, Query(ge=1, le=500, description="at most this many items")] = 50,
        after: Annotated[str | None, Query(description="the `next` of the page before")] = None,
    ) -> None:
        self.limit, self.after = limit, after


Paged = Annotated[Paging, Depends()]


async def yaml_text(request: Request) -> str:
    """The body as text, refused where it is not UTF-8 or larger than any spec can be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SPEC_BYTES:
            raise InvalidInputError(f"the body is larger than {MAX_SPEC_BYTES} bytes; is it a pipeline?")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the body is not UTF-8: byte {error.start} cannot be read") from error


def build_router(runtime: Runtime[RegistrySettings]) -> APIRouter:
    """The routes, over the runtime's database."""
    with reading(runtime.engine) as session:
        for pipeline in session.exec(select(PipelineRow.id)):
            metrics.begin(pipeline)
    router = APIRouter(prefix="/v1")
    _pipelines(router, runtime)
    _facts(router, runtime)
    _models(router, runtime)
    return router


def _pipelines(router: APIRouter, runtime: Runtime[RegistrySettings]) -> None:
    engine = runtime.engine

    @router.post("/pipelines", tags=["pipelines"], status_code=200, openapi_extra=_YAML_BODY,
                 responses={201: {"model": AppliedView, "description": "The pipeline is new"}})
    def apply(text: Annotated[str, Depends(yaml_text)], response: Response) -> AppliedView:
        """Create or change a pipeline. The body is its YAML document; applying the same again changes nothing."""
        pipeline = parse_pipeline(text)
        for path, problem in serving_problems(pipeline.spec.training, runtime.settings.model_server):
            raise InvalidInputError(f"pipeline: spec.training.{path}: {problem}")
        with transaction(engine) as session:
            applied = apply_pipeline(session, pipeline, runtime.clock)
        response.status_code = 201 if applied.created else 200
        return AppliedView.model_validate(applied)

    @router.get("/pipelines", tags=["pipelines"])
    def list_pipelines(paging: Paged) -> Page[PipelineSummary]:
        with reading(engine) as session:
            return queries.pipelines(session, limit=paging.limit, after=paging.after)

    @router.get("/pipelines/{name}", tags=["pipelines"])
    def get_pipeline(
        name: str, version: Annotated[int | None, Query(ge=1, description="the newest by default")] = None
    ) -> PipelineView:
        with reading(engine) as session:
            return queries.pipeline(session, name, version)


def _facts(router: APIRouter, runtime: Runtime[RegistrySettings]) -> None:
    engine = runtime.engine

    @router.get("/datasets", tags=["datasets"])
    def list_datasets(
        paging: Paged, pipeline: str | None = None, state: str | None = None, name: str | None = None
    ) -> Page[DatasetView]:
        with reading(engine) as session:
            return queries.page(session, Dataset, DatasetView, limit=paging.limit, after=paging.after,
                                pipeline=pipeline, state=state, name=name)

    @router.get("/datasets/{dataset_id}", tags=["datasets"])
    def get_dataset(dataset_id: str) -> DatasetView:
        with reading(engine) as session:
            return queries.one(session, Dataset, DatasetView, dataset_id, "dataset")

    @router.get("/runs", tags=["runs"])
    def list_runs(
        *, paging: Paged, pipeline: str | None = None, state: str | None = None, dataset_id: str | None = None,
        dataset_digest: str | None = None, pipeline_version: int | None = None, correlation_id: str | None = None,
    ) -> Page[RunView]:
        with reading(engine) as session:
            return queries.page(session, Run, RunView, limit=paging.limit, after=paging.after, pipeline=pipeline,
                                state=state, dataset_id=dataset_id, dataset_digest=dataset_digest,
                                pipeline_version=pipeline_version, correlation_id=correlation_id)

    @router.get("/runs/{run_id}", tags=["runs"])
    def get_run(run_id: str) -> RunView:
        with reading(engine) as session:
            return queries.one(session, Run, RunView, run_id, "run")

    @router.get("/runs/{run_id}/checklist", tags=["runs"])
    def get_checklist(run_id: str) -> Checklist:
        """What should be checked before, during and after a training, and what is recorded of it for this run."""
        with reading(engine) as session:
            return queries.checklist(session, run_id)

    @router.get("/evaluations", tags=["evaluations"])
    def list_evaluations(
        paging: Paged, pipeline: str | None = None, state: str | None = None, run_id: str | None = None
    ) -> Page[EvaluationView]:
        with reading(engine) as session:
            return queries.page(session, Evaluation, EvaluationView, limit=paging.limit, after=paging.after,
                                pipeline=pipeline, state=state, run_id=run_id)

    @router.get("/evaluations/{evaluation_id}", tags=["evaluations"])
    def get_evaluation(evaluation_id: str) -> EvaluationView:
        with reading(engine) as session:
            return queries.one(session, Evaluation, EvaluationView, evaluation_id, "evaluation")


def _models(router: APIRouter, runtime: Runtime[RegistrySettings]) -> None:
    engine = runtime.engine

    @router.get("/models", tags=["models"])
    def list_models(
        *, paging: Paged, pipeline: str | None = None, route: str | None = None, stage: Stage | None = None,
        run_id: str | None = None, evaluation_id: str | None = None,
    ) -> Page[ModelView]:
        with reading(engine) as session:
            return queries.page(session, ModelVersion, ModelView, limit=paging.limit, after=paging.after,
                                pipeline=pipeline, route=route, stage=stage, run_id=run_id,
                                evaluation_id=evaluation_id)

    @router.get("/models/{model_version}", tags=["models"])
    def get_model(model_version: str) -> ModelView:
        with reading(engine) as session:
            return queries.one(session, ModelVersion, ModelView, model_version, "model version")

    @router.get("/models/{model_version}/lineage", tags=["models"])
    def get_lineage(model_version: str) -> LineageView:
        """From the dataset's source to the adapter's weights, with every digest, and the rollout."""
        with reading(engine) as session:
            return queries.lineage(session, model_version)
