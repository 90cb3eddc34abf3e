"""Stages of model versions: `decide` says what changes, this module writes it and tells everyone."""

from collections.abc import Sequence

from sqlmodel import select

from services.registry import decide, metrics
from services.registry.models import Dataset, ModelVersion, PipelineRow
from services.registry.registration import model_ref
from shared.errors import PermanentError, TemporaryError
from shared.events import ModelStageChanged, Stage
from shared.messaging import HandlerContext


def promote(ctx: HandlerContext, model_version: str, previous: str | None, reason: str, *, first: bool) -> None:
    """Put a version into production; what was there is archived first.

    Args:
        first: it is the version's first rollout, and not a retry or an undo.
    """
    candidate = _locked(ctx, model_version)
    production = ctx.session.exec(
        select(ModelVersion).where(ModelVersion.pipeline == candidate.pipeline, ModelVersion.stage == "production")
    ).first()
    replaced = _known(ctx, previous) if previous else None
    decided = decide.promote if first else decide.promote_again
    _make(ctx, decided(
        _staged(candidate), production=production.id if production else None,
        named_previous=_staged(replaced) if replaced else None, reason=reason,
    ))


def retire(ctx: HandlerContext, model_version: str, stage: Stage, reason: str, *, first: bool) -> None:
    """A candidate's rollout ended without promotion: rolled back, or archived where a newer one came.

    A later rollout of the same version that ends so leaves it where the first one did.
    """
    if first:
        _make(ctx, decide.leave(_staged(_locked(ctx, model_version)), stage, reason))


def _make(ctx: HandlerContext, changes: Sequence[decide.StageChange]) -> None:
    for change in changes:
        row = _known(ctx, change.model_version)
        row.stage, row.stage_reason, row.updated_at = change.stage, change.reason, ctx.clock.now()
        # At once, because the index allows one production version at any moment, not only at the end.
        ctx.session.flush()
        ctx.emit(ModelStageChanged(
            model=model_ref(row), pipeline=row.pipeline, stage=change.stage, previous=change.previous,
            reason=change.reason,
        ))
        metrics.STAGE_CHANGES.labels(row.pipeline, change.stage).inc()
        dataset = ctx.session.get(Dataset, row.dataset["dataset_id"])
        if (change.previous, change.stage) == ("candidate", "production") and dataset is not None:
            metrics.promoted(row.pipeline, dataset.created_at, ctx.event.time)


def _locked(ctx: HandlerContext, model_version: str) -> ModelVersion:
    """The version, read under its pipeline's lock."""
    pipeline = _known(ctx, model_version).pipeline
    if ctx.session.get(PipelineRow, pipeline, with_for_update=True) is None:
        raise PermanentError(f"{model_version} belongs to pipeline {pipeline!r}, which is not in this registry")
    row = _known(ctx, model_version)
    ctx.session.refresh(row)
    return row


def _known(ctx: HandlerContext, model_version: str) -> ModelVersion:
    row = ctx.session.get(ModelVersion, model_version)
    if row is None:
        raise TemporaryError(f"model version {model_version} is not in this registry")
    return row


def _staged(row: ModelVersion) -> decide.Staged:
    return decide.Staged(row.id, row.stage)  # type: ignore[arg-type]  # the column holds nothing else
