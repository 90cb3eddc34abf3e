"""Rollouts that a person asks for: a version that ended is tried again, or a route goes back to an earlier one.

Each is a rollout of its own, with the next `attempt` of its version, so that what ended stays as it ended. It takes
the number of the route's newest rollout and is younger, so it supersedes whatever is in flight.
"""

from datetime import datetime

from sqlmodel import Session, col, func, select

from services.rollout.decide import new_state
from services.rollout.evidence import summary
from services.rollout.facts import rivals, successor
from services.rollout.models import Decision, Pipeline, Rollout, Route
from services.rollout.state import ACTIVE, TERMINAL, RolloutState
from services.rollout.window import Promotion, outside, previous
from shared.errors import ConflictError, NotFoundError
from shared.events import ModelRef
from shared.leases import interrupt
from shared.pipeline import RolloutPolicy


def retry(session: Session, rollout_id: str, *, by: str, reason: str, now: datetime) -> Rollout:
    """A new attempt of a rollout that ended without a promotion, from the first step, by the pipeline's present policy.

    Raises:
        NotFoundError: there is no such rollout.
        ConflictError: it may not be tried again; the message says why and what may be done.
    """
    row = session.get(Rollout, rollout_id)
    if row is None:
        raise NotFoundError(f"no rollout {rollout_id}")
    _locked(session, row.route)
    refuse = f"rollout {row.id}: cannot retry:"
    if row.state not in TERMINAL:
        raise ConflictError(f"{refuse} it has not ended ({row.state}); abort it first")
    if row.state == "promoted":
        raise ConflictError(f"{refuse} it was promoted; `tuneloop rollouts undo {row.route} --to {row.model_version}` "
                            "goes back to it")
    newer = successor(row, session.exec(rivals([row.route])))
    if newer is not None:
        raise ConflictError(f"{refuse} the route has a newer rollout, {newer.id} ({newer.state})")
    return _again(session, row, verb="retry", by=by, reason=reason, now=now, direct=False,
                  why=f"{row.id} ended as {row.state}")


def undo(
    session: Session, route_id: str, *, to: str | None, by: str, reason: str, now: datetime
) -> Rollout:
    """A rollout back to an earlier stable version: at once inside the rollback window, else step by step.

    Args:
        to: the model version; None for the one before the present.

    Raises:
        NotFoundError: there is no such route, or the version was never stable on it.
        ConflictError: there is nothing to go back to.
    """
    route = _locked(session, route_id)
    history = promotions(session, route_id)
    stable = ModelRef.model_validate(route.stable).model_version if route.stable else None
    target = to or (previous(history) if history else None)
    if target is None:
        raise ConflictError(f"route {route_id}: nothing to go back to: no version was stable before {stable or 'base'}"
                            "; to take traffic from a candidate, abort its rollout")
    if target == stable:
        raise ConflictError(f"route {route_id}: {target} is the stable version already; to take traffic from a "
                            "candidate, abort its rollout")
    row = session.exec(
        select(Rollout).where(
            Rollout.route == route_id, Rollout.model_version == target, Rollout.state == "promoted"
        ).order_by(col(Rollout.attempt).desc())
    ).first()
    if row is None:
        were = ", ".join(dict.fromkeys(past.model_version for past in history[1:])) or "none"
        raise NotFoundError(f"route {route_id}: {target} was never its stable version; earlier ones: {were}")
    if route.rollout_id is not None and _back_to(session, route.rollout_id, target):
        raise ConflictError(f"route {route_id}: {route.rollout_id} is taking it to {target} already")
    why_not = outside(history, target, now, _policy(session, row).rollback_window)
    return _again(
        session, row, verb="undo", by=by, reason=reason, now=now, direct=not why_not,
        why=f"the route goes back from {stable} to {target}, "
            + (f"with a new analysis, because {why_not}" if why_not else "inside the rollback window"),
    )


def promotions(session: Session, route: str) -> list[Promotion]:
    """The route's promotions, newest first."""
    rows = session.exec(
        select(Rollout).where(Rollout.route == route, Rollout.state == "promoted")
        .order_by(col(Rollout.finished_at).desc())
    )
    return [Promotion(row.model_version, row.finished_at) for row in rows if row.finished_at is not None]


def _locked(session: Session, route: str) -> Route:
    """The route's row, held, so that of two people one comes first."""
    row = session.get(Route, route, with_for_update=True)
    if row is None:
        raise NotFoundError(f"no route {route}")
    return row


def _back_to(session: Session, rollout_id: str, version: str) -> bool:
    row = session.get(Rollout, rollout_id)
    return row is not None and row.model_version == version


def _policy(session: Session, row: Rollout) -> RolloutPolicy:
    """The pipeline's newest one; the rollout's own where the pipeline is gone."""
    pipeline = session.get(Pipeline, row.pipeline)
    return RolloutPolicy.model_validate(pipeline.policy if pipeline else row.policy)


def _again(
    session: Session, row: Rollout, *, verb: str, by: str, reason: str, now: datetime, direct: bool, why: str
) -> Rollout:
    policy = _policy(session, row)
    number = session.exec(select(func.max(Rollout.number)).where(Rollout.route == row.route)).one()
    attempt = session.exec(
        select(func.max(Rollout.attempt)).where(Rollout.model_version == row.model_version)
    ).one() + 1
    state = new_state(now, policy).model_copy(update={"direct": direct})
    first = row.id if row.attempt == 1 else row.id.rsplit("-", 1)[0]
    made = Rollout(
        id=f"{first}-{attempt}", state=state.phase, pipeline=row.pipeline, route=row.route,
        model_version=row.model_version, number=number, attempt=attempt, model=row.model,
        base_model_digest=row.base_model_digest, policy=policy.model_dump(mode="json"),
        data=state.model_dump(mode="json"), correlation_id=row.correlation_id, causation_id=row.causation_id,
        created_at=now, updated_at=now,
    )
    session.add(made)
    session.flush()
    session.add(_decision(made, state, policy, action=verb, now=now, by=by,
                          reason=f"{verb} by {by or 'a person'}: {reason or 'no reason given'}; {why}"))
    for other in session.exec(
        select(Rollout).where(Rollout.route == row.route, col(Rollout.state).in_(ACTIVE), Rollout.id != made.id)
        .order_by(Rollout.id)
    ):
        interrupt(session, Rollout, other.id)
    return made


def _decision(
    row: Rollout, state: RolloutState, policy: RolloutPolicy, *, action: str, reason: str, by: str, now: datetime
) -> Decision:
    return Decision(
        rollout_id=row.id, at=now, action=action, rule="person", reason=reason, by=by, verdict="no_data",
        step=state.step, weight=state.weight, evidence=summary(state, policy),
    )
