"""What the evaluator learns from the others' events. Database only; reconcile.py acts on it."""

from services.evaluator import metrics
from services.evaluator.models import Evaluation, NewestDataset, PipelineRules, Production, Schedule
from services.evaluator.repeat import ACTIVE, OFF, repeat
from shared.errors import TemporaryError
from shared.events import (
    DatasetPrepared,
    DriftDetected,
    Event,
    ModelStageChanged,
    PipelineApplied,
    TrainingCompleted,
)
from shared.leases import interrupt
from shared.messaging import HandlerContext, Handlers

handlers = Handlers("evaluator")
on = handlers.on


@on(PipelineApplied)
def pipeline_applied(ctx: HandlerContext, event: Event[PipelineApplied]) -> None:
    """Remember the rules of this version, and when production is to be measured again."""
    data = event.data
    metrics.begin(data.pipeline)
    ctx.session.merge(PipelineRules(
        pipeline=data.pipeline, version=data.version, rules=data.spec.evaluation.model_dump(mode="json"),
    ))
    again = data.spec.triggers.reevaluate
    _schedule(ctx, data.pipeline, data.version, again.cron if again else "")


def _schedule(ctx: HandlerContext, pipeline: str, version: int, cron: str) -> None:
    """Take over the expression of a newer version; ticks before this moment are not due."""
    state, known = ACTIVE if cron else OFF, ctx.session.get(Schedule, pipeline, with_for_update=True)
    if known is None:
        ctx.session.add(Schedule(
            id=pipeline, state=state, pipeline_version=version, cron=cron, since=ctx.clock.now(),
        ))
    elif known.pipeline_version < version:
        since = known.since if known.cron == cron else ctx.clock.now()
        interrupt(ctx.session, Schedule, pipeline, state=state, pipeline_version=version, cron=cron, since=since)


@on(DatasetPrepared)
def dataset_prepared(ctx: HandlerContext, event: Event[DatasetPrepared]) -> None:
    """Remember the newest dataset version: production is measured again on its held-out rows."""
    data = event.data
    known = ctx.session.get(NewestDataset, data.pipeline, with_for_update=True)
    if known is None or event.time >= known.prepared_at:
        ctx.session.merge(NewestDataset(
            pipeline=data.pipeline, dataset=data.dataset.model_dump(mode="json"), prepared_at=event.time,
        ))


@on(DriftDetected)
def drift_detected(ctx: HandlerContext, event: Event[DriftDetected]) -> None:
    """Measure production again, where the pipeline wants that of drift."""
    data = event.data
    if data.action == "reevaluate":
        repeat(
            ctx.session, data.pipeline, "drift", data.drift_id, now=ctx.clock.now(),
            correlation_id=event.correlation_id, causation_id=event.id, traceparent=event.traceparent,
        )


@on(ModelStageChanged)
def model_stage_changed(ctx: HandlerContext, event: Event[ModelStageChanged]) -> None:
    """Remember what is in production.

    Facts about two versions may arrive in any order: what leaves production clears only itself, and what entered
    it earlier than the version that is known does not replace that.
    """
    data = event.data
    version = data.model.model_version
    known = ctx.session.get(Production, data.pipeline, with_for_update=True)
    if data.stage != "production":
        if known is not None and known.model_version == version:
            known.model = None
        return
    if known is None or event.time >= known.since:
        ctx.session.merge(Production(
            pipeline=data.pipeline, model_version=version, model=data.model.model_dump(mode="json"), since=event.time,
        ))


@on(TrainingCompleted)
def training_completed(ctx: HandlerContext, event: Event[TrainingCompleted]) -> None:
    """Make the run's one evaluation."""
    data = event.data
    evaluation_id = f"eval-{data.run_id}"
    if ctx.session.get(Evaluation, evaluation_id) is not None:
        return
    rules = ctx.session.get(PipelineRules, (data.pipeline, data.pipeline_version))
    if rules is None:
        raise TemporaryError(
            f"{data.run_id}: version {data.pipeline_version} of the pipeline {data.pipeline} is not known yet"
        )
    ctx.session.add(Evaluation(
        id=evaluation_id, state="pending", run_id=data.run_id, pipeline=data.pipeline,
        pipeline_version=data.pipeline_version, run=data.model_dump(mode="json"), rules=rules.rules,
        correlation_id=event.correlation_id, causation_id=event.id, traceparent=event.traceparent,
        created_at=ctx.clock.now(),
    ))
