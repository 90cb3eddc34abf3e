"""Changes of the route table. Each is one row and one `route.updated`, in the caller's transaction.

A route belongs to one rollout at a time. What another one asks of it changes nothing, so a rollout that never got its
route, or that has left it, can be ended in the same way as any other.
"""

import secrets
from collections.abc import Callable
from datetime import datetime

from sqlmodel import Session

from services.rollout.models import Rollout, Route
from services.rollout.state import FULL_WEIGHT
from services.rollout.unit_counts import counted_events
from services.rollout.wanted import Shift, TakeRoute
from shared.errors import TemporaryError
from shared.events import CountedEvent, ModelRef, RouteCapture, RouteTarget, RouteUpdated
from shared.pipeline import RolloutPolicy
from shared.served_names import control_of

Emit = Callable[[RouteUpdated], object]


def new_salt() -> str:
    """A salt for the split, so that each rollout draws its guinea pigs anew."""
    return secrets.token_hex(8)


def lock(session: Session, route: str) -> Route:
    """The route's row, held until the transaction ends.

    Raises:
        TemporaryError: it does not exist yet.
    """
    row = session.get(Route, route, with_for_update=True)
    if row is None:
        raise TemporaryError(f"the route {route} does not exist yet; it comes with its pipeline")
    return row


def take(row: Route, rollout: Rollout, effect: TakeRoute, now: datetime, emit: Emit) -> None:
    """Make `rollout` the route's own, with its candidate at weight 0, and the control too where there is to be one.

    Raises:
        TemporaryError: another rollout took it a moment ago.
    """
    if row.rollout_id not in (None, rollout.id):
        raise TemporaryError(f"the route {row.id} is held by {row.rollout_id}")
    row.rollout_id, row.candidate, row.weight, row.shadow, row.salt = rollout.id, rollout.model, 0, 0, new_salt()
    row.control = 0 if effect.control else None
    wanted = counted_events(RolloutPolicy.model_validate(rollout.policy))
    row.counted = [event.model_dump(mode="json") for event in wanted]
    if row.stable is None:
        row.base_model_digest = rollout.base_model_digest
    publish(row, now, emit)


def shift(row: Route, rollout: Rollout, share: Shift, now: datetime, emit: Emit) -> None:
    """Give the candidate and the control these shares; shares that they have already change nothing."""
    control = None if row.control is None else share.control
    if row.rollout_id != rollout.id or (row.weight, row.shadow, row.control) == (share.weight, share.shadow, control):
        return
    row.weight, row.shadow, row.control = share.weight, share.shadow, control
    publish(row, now, emit)


def make_stable(row: Route, rollout: Rollout, now: datetime, emit: Emit) -> None:
    """The candidate replaces stable, with all traffic; the route is free."""
    if row.rollout_id == rollout.id:
        row.stable = rollout.model
        _free(row)
        publish(row, now, emit)


def leave(row: Route, rollout: Rollout, now: datetime, emit: Emit) -> None:
    """The candidate is gone; the route is free."""
    if row.rollout_id == rollout.id:
        _free(row)
        publish(row, now, emit)


def _free(row: Route) -> None:
    row.candidate, row.weight, row.shadow, row.control, row.rollout_id = None, 0, 0, None, None
    row.counted = None


def publish(row: Route, now: datetime, emit: Emit) -> None:
    """Count the revision up and say the whole new truth."""
    row.revision += 1
    row.updated_at = now
    emit(RouteUpdated(
        route=row.id, revision=row.revision, salt=row.salt, base_model=row.base_model,
        base_model_digest=row.base_model_digest, targets=targets_of(row), updated_at=now,
        capture=RouteCapture.model_validate(row.capture) if row.capture else None,
        counted=[CountedEvent.model_validate(event) for event in row.counted or ()],
    ))


def targets_of(row: Route) -> list[RouteTarget]:
    """Stable first; weights add up to all traffic. The control is stable's adapter under its second name."""
    stable = ModelRef.model_validate(row.stable) if row.stable else None
    targets = [RouteTarget(
        model_version=stable.model_version if stable else None, adapter=stable.artifact if stable else None,
        role="stable", weight=FULL_WEIGHT - row.weight - (row.control or 0),
    )]
    if row.candidate:
        candidate = ModelRef.model_validate(row.candidate)
        targets.append(RouteTarget(
            model_version=candidate.model_version, adapter=candidate.artifact, role="candidate", weight=row.weight,
            shadow_share=row.shadow / FULL_WEIGHT,
        ))
    if row.control is not None:
        targets.append(RouteTarget(
            model_version=control_of(stable.model_version) if stable else None,
            adapter=stable.artifact if stable else None, role="control", weight=row.control,
            shadow_share=row.shadow / FULL_WEIGHT,
        ))
    return targets
