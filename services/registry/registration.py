"""From an evaluation that passed to a model version with a number."""

from sqlalchemy import text
from sqlmodel import Session, select

from services.registry import metrics
from services.registry.models import ModelVersion, PipelineRow, PipelineVersion
from shared.errors import PermanentError
from shared.events import EvaluationCompleted, Event, ModelRef, ModelRegistered
from shared.messaging import HandlerContext
from shared.pipeline import PipelineSpec

# One statement takes the number and locks the counter until the commit; a rollback gives the number back.
_NEXT = text(
    "INSERT INTO route_counters (route, last) VALUES (:route, 1) "
    "ON CONFLICT (route) DO UPDATE SET last = route_counters.last + 1 RETURNING last"
)


def register_model(ctx: HandlerContext, event: Event[EvaluationCompleted]) -> None:
    """Give the evaluated adapter a version on its pipeline's route, once per evaluation, and tell everyone.

    Of a reward model nobody is told: it is never rolled out, and stays a candidate.

    The route is the pipeline's present one: that is where its clients ask, whatever version the run belonged to.

    Raises:
        PermanentError: no such pipeline was ever applied here.
    """
    data, session = event.data, ctx.session
    # Lets registrations and promotions of one pipeline pass one after another.
    pipeline = session.get(PipelineRow, data.pipeline, with_for_update=True)
    if pipeline is None:
        raise PermanentError(
            f"evaluation {data.evaluation_id} is of pipeline {data.pipeline!r}, which was never applied here"
        )
    known = session.exec(select(ModelVersion).where(ModelVersion.evaluation_id == data.evaluation_id)).first()
    if known is not None:
        return
    number = _next_number(session, pipeline.route)
    version = ModelVersion(
        id=f"{pipeline.route}@{number}", route=pipeline.route, number=number, pipeline=data.pipeline,
        pipeline_version=data.pipeline_version, evaluation_id=data.evaluation_id, run_id=data.run_id,
        base_model=data.base_model, base_model_digest=data.base_model_digest, adapter_uri=data.adapter.uri,
        adapter_digest=data.adapter.digest, dataset=data.dataset.model_dump(mode="json"), stage="candidate",
        correlation_id=event.correlation_id, created_at=ctx.clock.now(), updated_at=ctx.clock.now(),
    )
    session.add(version)
    session.flush()
    metrics.STAGE_CHANGES.labels(version.pipeline, "candidate").inc()
    if _only_scores(session, version):
        return
    ctx.emit(ModelRegistered(
        model=model_ref(version), pipeline=version.pipeline, pipeline_version=version.pipeline_version,
        run_id=version.run_id, evaluation_id=version.evaluation_id, base_model_digest=version.base_model_digest,
    ))


def _only_scores(session: Session, version: ModelVersion) -> bool:
    """Whether it is a reward model: a version with its lineage, but nothing that a rollout could give to users."""
    known = session.get(PipelineVersion, (version.pipeline, version.pipeline_version))
    return known is not None and PipelineSpec.model_validate(known.spec).training.objective == "reward"


def model_ref(row: ModelVersion) -> ModelRef:
    """A row as events carry it."""
    return ModelRef.model_validate({
        "model_version": row.id, "base_model": row.base_model, "dataset": row.dataset,
        "artifact": {"uri": row.adapter_uri, "digest": row.adapter_digest},
    })


def _next_number(session: Session, route: str) -> int:
    return int(session.connection().execute(_NEXT, {"route": route}).scalar_one())
