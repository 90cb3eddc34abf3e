"""The facts that the registry records, and what follows from them.

Datasets, runs, evaluations and rollouts are recorded as they are told. Two facts have consequences: an evaluation
that passed makes a model version, and the end of a rollout changes stages.
"""

from services.registry import stages
from services.registry.facts import record
from services.registry.models import Dataset, Evaluation, Rollout, Run
from services.registry.registration import register_model
from shared.events import (
    DatasetPrepared,
    DatasetPublished,
    DatasetRejected,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationRepeated,
    Event,
    RolloutProgressed,
    RolloutPromoted,
    RolloutRolledBack,
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRetried,
    TrainingStarted,
)
from shared.messaging import HandlerContext, Handlers

handlers = Handlers("registry")
on = handlers.on


@on(DatasetPublished)
def dataset_published(ctx: HandlerContext, event: Event[DatasetPublished]) -> None:
    data = event.data
    record(ctx, Dataset, data.pipeline, "published", name=data.name or None, source_uri=data.uri,
           source_sha256=data.sha256, format=data.format)


@on(DatasetPrepared)
def dataset_prepared(ctx: HandlerContext, event: Event[DatasetPrepared]) -> None:
    data = event.data
    record(ctx, Dataset, data.pipeline, "prepared", name=data.name or None, pipeline_version=data.pipeline_version,
           source_uri=data.source_uri, artifact_uri=data.dataset.artifact.uri,
           artifact_digest=data.dataset.artifact.digest, rows=dict(data.dataset.rows), rows_in=data.rows_in,
           rows_rejected=data.rows_rejected, finished_at=event.time)


@on(DatasetRejected)
def dataset_rejected(ctx: HandlerContext, event: Event[DatasetRejected]) -> None:
    data = event.data
    record(ctx, Dataset, data.pipeline, "rejected", name=data.name or None, source_uri=data.source_uri,
           reason="; ".join(data.reasons), finished_at=event.time)


@on(TrainingStarted)
def training_started(ctx: HandlerContext, event: Event[TrainingStarted]) -> None:
    data = event.data
    run = record(ctx, Run, data.pipeline, "running", may_go_on=True, pipeline_version=data.pipeline_version,
                 dataset_id=data.dataset.dataset_id, dataset_digest=data.dataset.artifact.digest,
                 base_model=data.base_model, attempt=data.attempt, job=data.job, **_past(data))
    # Of the first attempt, also where its event comes late.
    run.started_at = min(run.started_at or event.time, event.time)


@on(TrainingProgressed)
def training_progressed(ctx: HandlerContext, event: Event[TrainingProgressed]) -> None:
    data = event.data
    record(ctx, Run, data.pipeline, "running", may_go_on=True, pipeline_version=data.pipeline_version,
           attempt=data.attempt, step=data.step, total_steps=data.total_steps, loss=data.loss,
           validation_loss=data.validation_loss, tokens_per_second=data.tokens_per_second, eta_seconds=data.eta_seconds,
           chosen=data.chosen)


@on(TrainingRetried)
def training_retried(ctx: HandlerContext, event: Event[TrainingRetried]) -> None:
    data = event.data
    run = record(ctx, Run, data.pipeline, "pending", may_go_on=True, pipeline_version=data.pipeline_version,
                 attempt=data.attempt, reason=f"retried: {data.reason}")
    if run.sequence == event.sequence:
        run.finished_at = None


@on(TrainingCompleted)
def training_completed(ctx: HandlerContext, event: Event[TrainingCompleted]) -> None:
    data = event.data
    record(ctx, Run, data.pipeline, "completed", may_go_on=True, pipeline_version=data.pipeline_version,
           dataset_id=data.dataset.dataset_id, dataset_digest=data.dataset.artifact.digest,
           base_model=data.base_model, base_model_digest=data.base_model_digest, adapter_uri=data.adapter.uri,
           adapter_digest=data.adapter.digest, attempt=data.attempt, step=data.steps, metrics=data.metrics,
           chosen=data.chosen, eta_seconds=0.0, finished_at=event.time, **_past(data))


def _past(data: TrainingStarted | TrainingCompleted) -> dict[str, str | None]:
    return {"start_digest": data.start.digest if data.start else None,
            "earlier_digest": data.earlier.digest if data.earlier else None}


@on(TrainingFailed)
def training_failed(ctx: HandlerContext, event: Event[TrainingFailed]) -> None:
    data = event.data
    record(ctx, Run, data.pipeline, "failed", may_go_on=True, pipeline_version=data.pipeline_version,
           attempt=data.attempt, reason=data.reason, eta_seconds=0.0, finished_at=event.time)


@on(EvaluationCompleted)
def evaluation_completed(ctx: HandlerContext, event: Event[EvaluationCompleted]) -> None:
    data = event.data
    _measured(ctx, data, data.production_model_version)
    if data.passed:
        register_model(ctx, event)


@on(EvaluationRepeated)
def evaluation_repeated(ctx: HandlerContext, event: Event[EvaluationRepeated]) -> None:
    """Recorded, and nothing else: production stays what it is."""
    _measured(ctx, event.data, event.data.model_version)


def _measured(
    ctx: HandlerContext, data: EvaluationCompleted | EvaluationRepeated, production: str | None
) -> None:
    """Record what was measured and judged while `production` was in production."""
    refused = "; ".join(f"{gate.gate}: {gate.reason}" for gate in data.gates if not gate.passed)
    record(ctx, Evaluation, data.pipeline, "passed" if data.passed else "refused", run_id=data.run_id,
           pipeline_version=data.pipeline_version, dataset_id=data.dataset.dataset_id, adapter_uri=data.adapter.uri,
           adapter_digest=data.adapter.digest, measurements=[item.model_dump() for item in data.measurements],
           gates=[gate.model_dump() for gate in data.gates], production_model_version=production,
           report_uri=data.report_uri or None, reason=refused or None, finished_at=ctx.event.time)


@on(EvaluationFailed)
def evaluation_failed(ctx: HandlerContext, event: Event[EvaluationFailed]) -> None:
    data = event.data
    record(ctx, Evaluation, data.pipeline, "failed", run_id=data.run_id, reason=data.reason, finished_at=event.time)


@on(RolloutProgressed)
def rollout_progressed(ctx: HandlerContext, event: Event[RolloutProgressed]) -> None:
    data = event.data
    superseded = data.phase == "superseded"
    record(ctx, Rollout, data.pipeline, data.phase, model_version=data.model_version, route=data.route,
           step=data.step, weight=data.weight, reason=data.reason, finished_at=event.time if superseded else None)
    if superseded:
        stages.retire(ctx, data.model_version, "archived", data.reason, first=data.attempt == 1)


@on(RolloutPromoted)
def rollout_promoted(ctx: HandlerContext, event: Event[RolloutPromoted]) -> None:
    data = event.data
    record(ctx, Rollout, data.pipeline, "promoted", model_version=data.model_version, route=data.route, weight=10_000,
           reason=data.reason, evidence=data.evidence, finished_at=event.time)
    stages.promote(ctx, data.model_version, data.previous, data.reason, first=data.attempt == 1)


@on(RolloutRolledBack)
def rollout_rolled_back(ctx: HandlerContext, event: Event[RolloutRolledBack]) -> None:
    data = event.data
    record(ctx, Rollout, data.pipeline, "rolled_back", model_version=data.model_version, route=data.route, weight=0,
           reason=data.reason, guardrail=data.guardrail or None, evidence=data.evidence,
           seconds_exposed=data.seconds_exposed, users_exposed=data.users_exposed, finished_at=event.time)
    stages.retire(ctx, data.model_version, "rolled_back", data.reason, first=data.attempt == 1)
