"""What the controller learns from the others' events. Database only; reconcile.py acts on it."""

from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from services.rollout import met_units, routes
from services.rollout.decide import new_state
from services.rollout.models import AdapterOnReplica, Pipeline, Replica, Rollout, Route
from services.rollout.state import ACTIVE
from shared.errors import PermanentError, TemporaryError
from shared.events import (
    AdapterFailed,
    AdapterLoaded,
    AdapterUnloaded,
    Event,
    ModelRegistered,
    PipelineApplied,
    ReplicaAlive,
    ReplicaReady,
    RouteCapture,
    UnitsMet,
)
from shared.leases import interrupt
from shared.messaging import HandlerContext, Handlers
from shared.pipeline import PipelineSpec, RolloutPolicy
from shared.served_names import BASE, control_of
from shared.telemetry import get_logger

log = get_logger(__name__)
handlers = Handlers("rollout")
on = handlers.on


@on(PipelineApplied)
def pipeline_applied(ctx: HandlerContext, event: Event[PipelineApplied]) -> None:
    """Remember the policy, and give the route to the bare base model on first sight, so that it serves at once."""
    data = event.data
    route = data.route
    known = ctx.session.get(Pipeline, data.pipeline, with_for_update=True)
    if known is not None and known.version >= data.version:
        return
    ctx.session.merge(Pipeline(
        id=data.pipeline, version=data.version, route=route, policy=data.spec.rollout.model_dump(mode="json"),
    ))
    capture = _capture(data.spec)
    row = ctx.session.get(Route, route, with_for_update=True)
    if row is None:
        row = Route(id=route, pipeline=data.pipeline, base_model=data.spec.base_model, salt=routes.new_salt(),
                    capture=capture, updated_at=ctx.clock.now())
        ctx.session.add(row)
        routes.publish(row, ctx.clock.now(), ctx.emit)
        return
    if row.pipeline != data.pipeline:
        raise PermanentError(f"the route {route} belongs to the pipeline {row.pipeline}; {data.pipeline} needs another")
    rebased = row.base_model != data.spec.base_model and row.stable is None and row.rollout_id is None
    if rebased:
        row.base_model, row.base_model_digest = data.spec.base_model, ""
    if rebased or row.capture != capture:
        row.capture = capture
        routes.publish(row, ctx.clock.now(), ctx.emit)


def _capture(spec: PipelineSpec) -> dict[str, Any] | None:
    """RouteCapture of a pipeline, as a route's row holds it."""
    rules = spec.capture
    if rules is None:
        return None
    return RouteCapture(share=rules.share, max_bytes=rules.max_bytes, redact=rules.redact).model_dump(mode="json")


@on(ModelRegistered)
def model_registered(ctx: HandlerContext, event: Event[ModelRegistered]) -> None:
    """Make a rollout, and wake those in flight on the same route, which it supersedes."""
    data, now = event.data, ctx.clock.now()
    version = data.model.model_version
    route, number = version.rsplit("@", 1)
    pipeline = ctx.session.get(Pipeline, data.pipeline)
    if pipeline is None or ctx.session.get(Route, route) is None:
        raise TemporaryError(f"{version}: the pipeline {data.pipeline} or its route {route} is not known yet")
    rollout_id = f"{route}-r{number}"
    if ctx.session.get(Rollout, rollout_id) is not None:
        return
    _wake(ctx.session, [row for row in _active(ctx.session) if row.route == route])
    policy = RolloutPolicy.model_validate(pipeline.policy)
    state = new_state(now, policy)
    ctx.session.add(Rollout(
        id=rollout_id, state=state.phase, pipeline=data.pipeline, route=route, model_version=version,
        number=int(number), model=data.model.model_dump(mode="json"), base_model_digest=data.base_model_digest,
        policy=pipeline.policy, data=state.model_dump(mode="json"), correlation_id=event.correlation_id,
        causation_id=event.id, created_at=now, updated_at=now,
    ))


@on(ReplicaReady)
def replica_ready(ctx: HandlerContext, event: Event[ReplicaReady]) -> None:
    """A model server began anew: what it had loaded before it must confirm again."""
    data = event.data
    row = ctx.session.get(Replica, data.replica, with_for_update=True)
    if row is None:
        ctx.session.add(Replica(id=data.replica, base_model=data.base_model, ready_at=event.time, seen_at=event.time))
    elif event.time >= row.ready_at:
        row.base_model, row.ready_at = data.base_model, event.time
    else:
        return
    _heard(ctx.session, data.replica, event.time)
    _wake(ctx.session, _active(ctx.session))


@on(ReplicaAlive)
def replica_alive(ctx: HandlerContext, event: Event[ReplicaAlive]) -> None:
    """A model server answers still; one that never said that it is ready is not known, and is not waited for."""
    _heard(ctx.session, event.data.replica, event.time, says_alive=True)


def _heard(session: Session, replica: str, at: datetime, *, says_alive: bool = False) -> None:
    """A replica has reported: it is waited for again, if it was forgotten."""
    row = session.get(Replica, replica, with_for_update=True)
    if row is None:
        return
    row.says_alive = row.says_alive or says_alive
    row.seen_at = at if row.seen_at is None else max(at, row.seen_at)
    if row.forgotten_at is not None and at > row.forgotten_at:
        row.forgotten_at = None
        log.info("a model server that was forgotten reports again", replica=replica, base_model=row.base_model)
        _wake(session, _active(session))


@on(AdapterLoaded)
def adapter_loaded(ctx: HandlerContext, event: Event[AdapterLoaded]) -> None:
    data = event.data
    _note(ctx.session, event.time, AdapterOnReplica(
        replica=data.replica, model_version=data.model_version, digest=data.digest, state="loaded", at=event.time,
    ))


@on(AdapterFailed)
def adapter_failed(ctx: HandlerContext, event: Event[AdapterFailed]) -> None:
    data = event.data
    _note(ctx.session, event.time, AdapterOnReplica(
        replica=data.replica, model_version=data.model_version, digest=data.digest, state="failed", at=event.time,
        permanent=data.permanent, reason=data.reason,
    ))


@on(AdapterUnloaded)
def adapter_unloaded(ctx: HandlerContext, event: Event[AdapterUnloaded]) -> None:
    data = event.data
    _note(ctx.session, event.time, AdapterOnReplica(
        replica=data.replica, model_version=data.model_version, digest=data.digest, state="unloaded", at=event.time,
    ))


@on(UnitsMet)
def units_met(ctx: HandlerContext, event: Event[UnitsMet]) -> None:
    met_units.count(ctx.session, event.data, event.time)


def _note(session: Session, at: datetime, fact: AdapterOnReplica) -> None:
    """The newest fact wins, in whatever order they arrive; the rollout that may wait for it looks at once."""
    _heard(session, fact.replica, at)
    known = session.get(AdapterOnReplica, (fact.replica, fact.model_version), with_for_update=True)
    if known is None or at >= known.at:
        session.merge(fact)
        _wake(session, [row for row in _active(session) if fact.model_version in (
            row.model_version, control_of(row.stable or BASE)
        )])


def _active(session: Session) -> list[Rollout]:
    return list(session.exec(select(Rollout).where(col(Rollout.state).in_(ACTIVE))))


def _wake(session: Session, rollouts: list[Rollout]) -> None:
    for row in sorted(rollouts, key=lambda row: row.id):
        interrupt(session, Rollout, row.id)
