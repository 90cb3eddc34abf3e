"""The events that the trainer acts on: pipelines are remembered, prepared datasets become runs, and so does drift."""

from services.trainer import metrics
from services.trainer.decide import run_id_of
from services.trainer.models import ModelVersion, NewestDataset, PipelineRow, Run
from shared.errors import TemporaryError
from shared.events import (
    DatasetPrepared,
    DatasetRef,
    DriftDetected,
    Event,
    ModelRegistered,
    ModelStageChanged,
    PipelineApplied,
    Stage,
)
from shared.messaging import HandlerContext, Handlers
from shared.pipeline import PipelineSpec
from shared.telemetry import get_logger

log = get_logger(__name__)

handlers = Handlers("trainer")
on = handlers.on


@on(PipelineApplied)
def pipeline_applied(ctx: HandlerContext, event: Event[PipelineApplied]) -> None:
    data = event.data
    metrics.begin(data.pipeline)
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
    newest = ctx.session.get(NewestDataset, data.pipeline, with_for_update=True)
    if newest is None or event.time >= newest.prepared_at:
        ctx.session.merge(NewestDataset(
            pipeline=data.pipeline, dataset=data.dataset.model_dump(mode="json"), prepared_at=event.time,
        ))
    if PipelineSpec.model_validate(pipeline.spec).triggers.on_dataset:
        _run(ctx, pipeline, data.dataset)


@on(ModelRegistered)
def model_registered(ctx: HandlerContext, event: Event[ModelRegistered]) -> None:
    """Remember the version, so that a recipe can name it as its start."""
    _staged(ctx, event, "candidate")


@on(ModelStageChanged)
def model_stage_changed(ctx: HandlerContext, event: Event[ModelStageChanged]) -> None:
    """Remember what is in production. The newest fact about a version counts, in whatever order they arrive."""
    _staged(ctx, event, event.data.stage)


def _staged(ctx: HandlerContext, event: Event[ModelRegistered] | Event[ModelStageChanged], stage: Stage) -> None:
    model = event.data.model
    known = ctx.session.get(ModelVersion, model.model_version, with_for_update=True)
    if known is None or event.time >= known.since:
        ctx.session.merge(ModelVersion(
            id=model.model_version, pipeline=event.data.pipeline, model=model.model_dump(mode="json"), stage=stage,
            since=event.time,
        ))


@on(DriftDetected)
def drift_detected(ctx: HandlerContext, event: Event[DriftDetected]) -> None:
    """Train on the newest dataset version, where the pipeline wants that of drift.

    What was trained on already is not again: the same rows and the same recipe would give the same adapter.
    """
    data = event.data
    if data.action != "retrain":
        return
    pipeline = ctx.session.get(PipelineRow, data.pipeline)
    newest = ctx.session.get(NewestDataset, data.pipeline)
    if pipeline is None or newest is None:
        log.warning("drift asks for a run, but no dataset of the pipeline is known here", drift=data.drift_id)
        return
    if not _run(ctx, pipeline, DatasetRef.model_validate(newest.dataset)):
        log.warning(
            "drift asks for a run, but the newest dataset version was trained on already; publish newer rows",
            drift=data.drift_id, dataset=newest.dataset["dataset_id"],
        )


def _run(ctx: HandlerContext, pipeline: PipelineRow, dataset: DatasetRef) -> bool:
    """Make the run of this dataset under the pipeline's newest version; False if there is one."""
    spec = PipelineSpec.model_validate(pipeline.spec)
    run_id = run_id_of(pipeline.id, pipeline.version, dataset.artifact.digest)
    if ctx.session.get(Run, run_id) is not None:
        return False
    ctx.session.add(Run(
        id=run_id,
        state="pending",
        pipeline=pipeline.id,
        pipeline_version=pipeline.version,
        base_model=spec.base_model,
        recipe=spec.training.model_dump(mode="json", by_alias=True),
        dataset=dataset.model_dump(mode="json"),
        correlation_id=ctx.event.correlation_id,
        causation_id=ctx.event.id,
        created_at=ctx.clock.now(),
    ))
    return True
