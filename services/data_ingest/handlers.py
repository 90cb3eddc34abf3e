"""The facts that data_ingest acts on. The work on a dataset itself is done by `services.data_ingest.reconcile`."""

from services.data_ingest import metrics
from services.data_ingest.models import PENDING, Dataset, KnownPipeline
from shared.errors import PermanentError
from shared.events import DatasetPublished, Event, PipelineApplied
from shared.messaging import HandlerContext, Handlers

handlers = Handlers("data_ingest")
on = handlers.on


@on(PipelineApplied)
def pipeline_applied(ctx: HandlerContext, event: Event[PipelineApplied]) -> None:
    """Remember the newest spec."""
    data = event.data
    metrics.begin(data.pipeline)
    known = ctx.session.get(KnownPipeline, data.pipeline)
    if known is not None and known.version >= data.version:
        return
    spec = data.spec.model_dump(mode="json")
    ctx.session.merge(KnownPipeline(name=data.pipeline, version=data.version, spec=spec))


@on(DatasetPublished)
def dataset_published(ctx: HandlerContext, event: Event[DatasetPublished]) -> None:
    """Note a dataset to prepare. Those of our own upload API are noted already."""
    data = event.data
    row = ctx.session.get(Dataset, data.dataset_id)
    if row is not None:
        if (row.uri, row.pipeline) != (data.uri, data.pipeline):
            raise PermanentError(
                f"dataset {data.dataset_id!r} was published before, as {row.uri} for {row.pipeline}, and now as "
                f"{data.uri} for {data.pipeline}; publish it under another id"
            )
        return
    ctx.session.add(Dataset(
        id=data.dataset_id, state=PENDING, pipeline=data.pipeline, name=data.name, uri=data.uri, format=data.format,
        sha256=data.sha256, correlation_id=event.correlation_id, causation_id=event.id,
        traceparent=event.traceparent, created_at=ctx.clock.now(),
    ))
