"""data_ingest's HTTP API: publish a dataset, and see what became of it."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated

import anyio.from_thread
import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Request, Response
from sqlmodel import col, select
from starlette.requests import ClientDisconnect

from services.data_ingest.models import Dataset
from services.data_ingest.settings import DataIngestSettings
from services.data_ingest.upload import Uploaded, check_parameters, take, wait_for_pipeline
from services.data_ingest.views import DatasetPage, DatasetView, view
from shared.db import reading
from shared.errors import NotFoundError, TuneloopError
from shared.service import Runtime
from shared.telemetry import get_logger, span

log = get_logger(__name__)

# Each holds a thread and up to two parts (16 MiB) in memory; further ones wait, and health checks do not.
CONCURRENT_UPLOADS = 8
# What is still read of a refused body, so that its sender gets to see the answer.
_DRAIN_BYTES = 16 * 1024 * 1024
_CLIENT_CLOSED_REQUEST = 499
_RAW_BODY = {
    "requestBody": {
        "required": True, "description": "the rows",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def build_router(runtime: Runtime[DataIngestSettings]) -> APIRouter:
    """The routes, over the runtime's database and store."""
    router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
    _uploads(router, runtime)
    _queries(router, runtime)
    return router


def _uploads(router: APIRouter, runtime: Runtime[DataIngestSettings]) -> None:
    limiter = CapacityLimiter(CONCURRENT_UPLOADS)

    @router.post("", status_code=202, response_model=Uploaded, openapi_extra=_RAW_BODY)
    async def post_dataset(
        request: Request,
        pipeline: Annotated[str, Query(description="the pipeline that shall learn from the rows")],
        format_: Annotated[str, Query(alias="format", description="how the rows are written")] = "jsonl",
        name: Annotated[str, Query(description="for people")] = "",
    ) -> Uploaded | Response:
        """Publish a dataset: the raw body is streamed to S3, and what follows happens by itself."""
        body = request.stream()
        try:
            check_parameters(runtime.settings, format_, name, request.headers.get("content-length"))
            await anyio.to_thread.run_sync(wait_for_pipeline, runtime, pipeline)
            with span("publish dataset", request.headers.get("traceparent"), pipeline=pipeline):
                work = partial(take, runtime, _blocking(body), pipeline=pipeline, format_=format_, name=name)
                return await anyio.to_thread.run_sync(work, limiter=limiter)
        except ClientDisconnect:
            log.info("an upload was broken off; nothing was stored", pipeline=pipeline)
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        except TuneloopError:
            await _drain(body)
            raise


def _queries(router: APIRouter, runtime: Runtime[DataIngestSettings]) -> None:
    @router.get("")
    def list_datasets(
        limit: Annotated[int, Query(ge=1, le=500)] = 50, pipeline: str | None = None, state: str | None = None
    ) -> DatasetPage:
        """Published datasets, newest first."""
        query = select(Dataset).order_by(col(Dataset.created_at).desc(), col(Dataset.id).desc()).limit(limit)
        if pipeline is not None:
            query = query.where(Dataset.pipeline == pipeline)
        if state is not None:
            query = query.where(Dataset.state == state)
        with reading(runtime.engine) as session:
            return DatasetPage(items=[view(row) for row in session.exec(query)])

    @router.get("/{dataset_id}")
    def get_dataset(dataset_id: str) -> DatasetView:
        """One dataset with its report."""
        with reading(runtime.engine) as session:
            row = session.get(Dataset, dataset_id)
        if row is None:
            raise NotFoundError(f"there is no dataset {dataset_id!r}")
        return view(row)


def _blocking(body: AsyncIterator[bytes]) -> Iterator[bytes]:
    """The body for a worker thread, each chunk fetched in the event loop when it is asked for."""

    async def next_chunk() -> bytes | None:
        return await anext(body, None)

    while (chunk := anyio.from_thread.run(next_chunk)) is not None:
        yield chunk


async def _drain(body: AsyncIterator[bytes]) -> None:
    left = _DRAIN_BYTES
    try:
        async for chunk in body:
            left -= len(chunk)
            if left < 0:
                return
    except ClientDisconnect:
        return
