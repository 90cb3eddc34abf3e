"""What the evaluator learns from the others' events. Database only; reconcile.py acts on it."""

from services.evaluator.models import Evaluation, PipelineRules, Production
from shared.errors import TemporaryError
from shared.events import Event, ModelStageChanged, PipelineApplied, TrainingCompleted
from shared.messaging import HandlerContext, Handlers

handlers = Handlers("evaluator")
on = handlers.on


@on(PipelineApplied)
def pipeline_applied(ctx: HandlerContext, event: Event[PipelineApplied]) -> None:
    """Remember the rules of this version."""
    data = event.data
    ctx.session.merge(PipelineRules(
        pipeline=data.pipeline, version=data.version, rules=data.spec.evaluation.model_dump(mode="json"),
    ))


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
