"""Reading the registry: rows to answers."""

from typing import Any, TypeVar

from sqlmodel import Session, SQLModel, col, select

from services.registry.checklist import Checklist, Facts, checklist_of
from services.registry.models import (
    Dataset,
    Evaluation,
    ModelVersion,
    PipelineRow,
    PipelineVersion,
    Rollout,
    Run,
)
from services.registry.paging import newest_first
from services.registry.views import (
    DatasetView,
    EvaluationView,
    LineageView,
    ModelView,
    Page,
    PipelineSummary,
    PipelineVersionView,
    PipelineView,
    RolloutView,
    RunView,
    View,
)
from shared.errors import NotFoundError
from shared.pipeline import PipelineSpec

V = TypeVar("V", bound=View)
T = TypeVar("T", bound=SQLModel)


def page(
    session: Session, model: type[SQLModel], view: type[V], *, limit: int, after: str | None, **filters: Any
) -> Page[V]:
    """A page of a table's rows."""
    rows, following = newest_first(session, model, limit=limit, after=after, filters=filters)
    return Page(items=[view.model_validate(row) for row in rows], next=following)


def one(session: Session, model: type[SQLModel], view: type[V], identity: str, kind: str) -> V:
    """The row with this id.

    Raises:
        NotFoundError: there is none.
    """
    row = session.get(model, identity)
    if row is None:
        raise NotFoundError(f"there is no {kind} {identity!r}")
    return view.model_validate(row)


def pipelines(session: Session, *, limit: int, after: str | None) -> Page[PipelineSummary]:
    """A page of pipelines as they are now."""
    rows, following = newest_first(session, PipelineRow, limit=limit, after=after, filters={})
    views = [PipelineSummary.model_validate(_summary(session, row, row.version)) for row in rows]
    return Page(items=views, next=following)


def pipeline(session: Session, name: str, version: int | None) -> PipelineView:
    """A pipeline with the spec of its newest version, or of `version`."""
    row = session.get(PipelineRow, name)
    if row is None:
        raise NotFoundError(f"there is no pipeline {name!r}; `tuneloop apply` makes one")
    if session.get(PipelineVersion, (name, version or row.version)) is None:
        raise NotFoundError(f"pipeline {name!r} has no version {version}; the newest is {row.version}")
    return PipelineView.model_validate(_summary(session, row, version or row.version))


def _summary(session: Session, row: PipelineRow, version: int) -> dict[str, Any]:
    recorded = session.get_one(PipelineVersion, (row.id, version))
    production = session.exec(
        select(ModelVersion.id).where(ModelVersion.pipeline == row.id, ModelVersion.stage == "production")
    ).first()
    return {
        "name": row.id, "version": version, "digest": recorded.digest, "route": row.route, "labels": row.labels,
        "base_model": recorded.spec["baseModel"], "production": production, "created_at": row.created_at,
        "updated_at": row.updated_at, "spec": recorded.spec,
    }


def lineage(session: Session, model_version: str) -> LineageView:
    """Everything that a model version was made from, as far as it is known."""
    model = session.get(ModelVersion, model_version)
    if model is None:
        raise NotFoundError(f"there is no model version {model_version!r}")
    rollout = session.exec(
        select(Rollout).where(Rollout.model_version == model_version).order_by(col(Rollout.created_at).desc())
    ).first()
    spec = session.get(PipelineVersion, (model.pipeline, model.pipeline_version))
    return LineageView(
        model=ModelView.model_validate(model),
        pipeline=_view(PipelineVersionView, spec),
        dataset=_view(DatasetView, session.get(Dataset, str(model.dataset["dataset_id"]))),
        run=_view(RunView, session.get(Run, model.run_id)),
        evaluation=_view(EvaluationView, session.get(Evaluation, model.evaluation_id)),
        rollout=_view(RolloutView, rollout),
    )


def checklist(session: Session, run_id: str) -> Checklist:
    """The checks of a run, from everything that is recorded of it."""
    run = one(session, Run, RunView, run_id, "run")
    spec = session.get(PipelineVersion, (run.pipeline, run.pipeline_version))
    evaluation = _newest(session, Evaluation, Evaluation.run_id == run_id)
    model = _newest(session, ModelVersion, ModelVersion.run_id == run_id)
    rollout = _newest(session, Rollout, Rollout.model_version == model.id) if model else None
    dataset = session.get(Dataset, run.dataset_id) if run.dataset_id else None
    return checklist_of(Facts(
        run=run, spec=PipelineSpec.model_validate(spec.spec) if spec else None, dataset=_view(DatasetView, dataset),
        evaluation=_view(EvaluationView, evaluation), model=_view(ModelView, model),
        rollout=_view(RolloutView, rollout),
    ))


def _newest(session: Session, table: type[T], condition: Any) -> T | None:
    created: Any = table.__table__.c.created_at  # type: ignore[attr-defined]
    return session.exec(select(table).where(condition).order_by(created.desc())).first()


def _view(view: type[V], row: object | None) -> V | None:
    return None if row is None else view.model_validate(row)
