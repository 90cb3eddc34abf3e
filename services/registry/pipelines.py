"""Applying a pipeline: a new version where the spec means something else, and the fact for everyone."""

import uuid
from dataclasses import dataclass

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select

from services.registry import metrics
from services.registry.decide import spec_digest
from services.registry.models import PipelineRow, PipelineVersion
from shared.clock import Clock
from shared.errors import ConflictError
from shared.events import PipelineApplied
from shared.messaging import emit
from shared.pipeline import Pipeline


@dataclass(frozen=True)
class Applied:
    """What came of applying a pipeline. `created` says that its name is new, `changed` that its version is."""

    name: str
    version: int
    digest: str
    created: bool
    changed: bool


def apply_pipeline(session: Session, pipeline: Pipeline, clock: Clock) -> Applied:
    """Record a pipeline; a spec that means the same as the present version's changes nothing but the labels.

    Raises:
        ConflictError: another pipeline has the route.
    """
    name, digest = pipeline.metadata.name, spec_digest(pipeline.spec)
    metrics.begin(name)
    row = _locked(session, pipeline, clock)
    current = session.get(PipelineVersion, (name, row.version))
    row.labels = dict(pipeline.metadata.labels)
    if current is not None and current.digest == digest:
        return Applied(name, row.version, digest, created=False, changed=False)
    row.version, row.route, row.updated_at = row.version + 1, pipeline.route, clock.now()
    session.add(PipelineVersion(
        pipeline=name, version=row.version, digest=digest, spec=pipeline.spec.model_dump(mode="json"),
        created_at=clock.now(),
    ))
    try:
        session.flush()
    except IntegrityError as error:
        raise _taken_meanwhile(pipeline) from error
    emit(
        session, PipelineApplied(pipeline=name, version=row.version, digest=digest, spec=pipeline.spec),
        source="registry", clock=clock, correlation_id=str(uuid.uuid4()),
    )
    return Applied(name, row.version, digest, created=current is None, changed=True)


def _locked(session: Session, pipeline: Pipeline, clock: Clock) -> PipelineRow:
    """The pipeline's row, made where the name is new, held until the commit.

    Two people may apply the same new name at once: one of them makes the row, the other waits and goes on with it.
    """
    name, route = pipeline.metadata.name, pipeline.route
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.connection().execute(
        insert(PipelineRow)
        .values(id=name, version=0, route=route, labels={}, created_at=clock.now(), updated_at=clock.now())
        .on_conflict_do_nothing()
    )
    other = session.exec(select(PipelineRow).where(PipelineRow.route == route, PipelineRow.id != name)).first()
    if other is not None:
        raise ConflictError(
            f"pipeline {name!r}: route {route!r} belongs to pipeline {other.id!r}; choose another spec.rollout.route"
        )
    row = session.get(PipelineRow, name, with_for_update=True)
    if row is None:
        raise _taken_meanwhile(pipeline)
    return row


def _taken_meanwhile(pipeline: Pipeline) -> ConflictError:
    return ConflictError(
        f"pipeline {pipeline.metadata.name!r}: route {pipeline.route!r} was taken a moment ago; apply again"
    )
