"""The events that the trainer acts on: pipelines are remembered, prepared datasets become runs."""

from services.trainer.decide import run_id_of
from services.trainer.models import PipelineRow, Run
from shared.errors import TemporaryError
from shared.events import DatasetPrepared, Event, PipelineApplied
from shared.messaging import HandlerContext, Handlers
from shared.pipeline import PipelineSpec

handlers = Handlers("trainer")
on = handlers.on


@on(PipelineApplied)
def pipeline_applied(ctx: HandlerContext, event: Event[PipelineApplied]) -> None:
    data = event.data
    known = ctx.session.get(PipelineRow, data.pipeline)
    if known is None or known.version < data.version:
        spec = data.spec.model_dump(mode="json", by_alias=True)
        ctx.session.merge(PipelineRow(id=data.pipeline, version=data.version, spec=spec))


@on(DatasetPrepared)
def dataset_prepared(ctx: HandlerContext, event: Event[DatasetPrepared]) -> None:
    data = event.data
    pipeline = ctx.session.get(PipelineRow, data.pipeline)
    if pipeline is None or pipeline.version < data.pipeline_version:
        # Pipelines and datasets are two topics; the other one may be a moment behind.
        raise TemporaryError(f"pipeline {data.pipeline} version {data.pipeline_version} has not arrived here yet")
    spec = PipelineSpec.model_validate(pipeline.spec)
    run_id = run_id_of(data.pipeline, pipeline.version, data.dataset.artifact.digest)
    if not spec.triggers.on_dataset or ctx.session.get(Run, run_id) is not None:
        return
    ctx.session.add(Run(
        id=run_id,
        state="pending",
        pipeline=data.pipeline,
        pipeline_version=pipeline.version,
        base_model=spec.base_model,
        recipe=spec.training.model_dump(mode="json", by_alias=True),
        dataset=data.dataset.model_dump(mode="json"),
        correlation_id=event.correlation_id,
        causation_id=event.id,
        created_at=ctx.clock.now(),
    ))
