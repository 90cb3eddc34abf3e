"""What the drift service learns from the others' events. Samples have a loop of their own: `services.drift.samples`."""

from services.drift import metrics
from services.drift.models import Evaluated, ModelVersion, Pipeline
from shared.events import EvaluationCompleted, Event, ModelRegistered, PipelineApplied
from shared.messaging import HandlerContext, Handlers

handlers = Handlers("drift")
on = handlers.on


@on(PipelineApplied)
def pipeline_applied(ctx: HandlerContext, event: Event[PipelineApplied]) -> None:
    """Remember what shall follow from drift."""
    data = event.data
    metrics.begin(data.route)
    known = ctx.session.get(Pipeline, data.pipeline)
    if known is None or known.version < data.version:
        ctx.session.merge(Pipeline(
            id=data.pipeline, version=data.version, route=data.route,
            policy=data.spec.triggers.on_drift.model_dump(mode="json"),
        ))


@on(ModelRegistered)
def model_registered(ctx: HandlerContext, event: Event[ModelRegistered]) -> None:
    """Remember what a model version was trained on."""
    data = event.data
    ctx.session.merge(ModelVersion(
        id=data.model.model_version, pipeline=data.pipeline, dataset=data.model.dataset.model_dump(mode="json"),
        evaluation_id=data.evaluation_id,
    ))


@on(EvaluationCompleted)
def evaluation_completed(ctx: HandlerContext, event: Event[EvaluationCompleted]) -> None:
    """Remember what the candidate's answers to its own held-out rows look like."""
    data = event.data
    for item in data.measurements:
        if (item.subject, item.on) == ("candidate", "heldout") and item.outputs:
            outputs = {counts.feature: counts.model_dump(mode="json") for counts in item.outputs}
            ctx.session.merge(Evaluated(evaluation_id=data.evaluation_id, outputs=outputs))
