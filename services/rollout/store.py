"""Stores what looks came to: a rollout's new state with all its effects, in one transaction.

State, route table, decisions, answers to people and events commit in one transaction that begins with the fenced write
of the rollout's row. So a controller that lost its lease writes nothing, and a crash at any point loses a whole look or
nothing of it. Looks that nobody else hears of (most of them: the rollout goes on as it was) share a transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from services.rollout import metrics
from services.rollout.decide import next_look
from services.rollout.effects import Effects, store_decisions
from services.rollout.models import CommandRow, Rollout, Route
from services.rollout.state import TERMINAL, RolloutState
from services.rollout.wanted import Answer, Effect, Record, TakeRoute
from shared.clock import Clock
from shared.db import transaction
from shared.events import ModelRef
from shared.leases import FREE, Lease, apply, apply_all
from shared.pipeline import RolloutPolicy
from shared.telemetry import get_logger
from shared.webhooks import Notification

log = get_logger(__name__)


@dataclass(frozen=True)
class Conclusion:
    """What a look at a rollout came to.

    Attributes:
        row: the rollout as it was claimed.
        before: its state then.
        wanted: what must be done for `after` to be true.
        now: when it was concluded.
        sampled_at: when the newest sample was scraped that it rests on, where a guardrail fired.
    """

    row: Rollout
    lease: Lease
    policy: RolloutPolicy
    before: RolloutState
    after: RolloutState
    wanted: list[Effect]
    now: datetime
    sampled_at: datetime | None = None

    @property
    def quiet(self) -> bool:
        """Whether it only adds to what is known: no traffic moves, and nobody is told or answered."""
        return all(isinstance(effect, Record) for effect in self.wanted)


class Store:
    """Writes conclusions.

    Args:
        notifications: of pipelines that say nothing of them.
    """

    def __init__(self, engine: Engine, clock: Clock, notifications: Sequence[Notification]) -> None:
        self._engine, self._clock, self._notifications = engine, clock, notifications

    def one(self, found: Conclusion) -> None:
        """Write one; it is dropped where the lease is lost."""
        row = found.row
        with transaction(self._engine) as session:
            stable = _stable(session, row, found.wanted)
            values = _values(found, stable)
            if _more_commands(session, row, found.wanted):
                values["next_look_at"] = found.now
            if not apply(session, Rollout, found.lease, **values):
                log.warning("the lease is lost; this look is dropped", rollout=row.id, epoch=found.lease.epoch)
                return
            effects = self._carried_out(session, found, stable)
            store_decisions(session, [effects])
        _show(found, effects)

    def together(self, found: Sequence[Conclusion]) -> None:
        """Write quiet ones. What cannot be written is looked at again when its lease has ended."""
        if len(found) > 1 and self._all(found):
            return
        for each in found:
            try:
                self.one(each)
            except Exception as error:
                # One row's trouble must not stop the others.
                log.warning("a look could not be stored; it is taken again when its lease has ended",
                            rollout=each.row.id, error=repr(error), exc_info=error)

    def _all(self, found: Sequence[Conclusion]) -> bool:
        """Write all of them, or none: False where a lease is lost, or something fails for one of them."""
        try:
            with transaction(self._engine) as session:
                if not apply_all(session, Rollout, [(each.lease, _values(each, each.row.stable)) for each in found]):
                    session.rollback()
                    return False
                effects = [self._carried_out(session, each, each.row.stable) for each in found]
                store_decisions(session, effects)
        except Exception as error:
            log.warning("looks could not be stored together; each is stored by itself", looks=len(found),
                        error=repr(error), exc_info=error)
            return False
        for each, done in zip(found, effects, strict=True):
            _show(each, done)
        return True

    def _carried_out(self, session: Session, found: Conclusion, stable: str | None) -> Effects:
        effects = Effects(
            session=session, clock=self._clock, rollout=found.row, policy=found.policy, before=found.before,
            after=found.after, now=found.now, stable=stable, notifications=self._notifications,
            sampled_at=found.sampled_at,
        )
        effects.carry_out(found.wanted)
        return effects


def _values(found: Conclusion, stable: str | None) -> dict[str, Any]:
    """The rollout's row with the end of its lease."""
    after, now = found.after, found.now
    return {
        **FREE, "state": after.phase, "data": after.model_dump(mode="json"), "updated_at": now,
        "finished_at": now if after.phase in TERMINAL else None, "next_look_at": next_look(after, now, found.policy),
        "stable": stable,
    }


def _show(found: Conclusion, effects: Effects) -> None:
    """In metrics and in the log, once it is stored."""
    row = found.row
    metrics.publish(row, found.after, found.policy, found.now)
    for record in effects.recorded:
        metrics.decided(row, record, found.now)
        log.info("decision", rollout=row.id, action=record.action, rule=record.rule, reason=record.reason)


def _more_commands(session: Session, row: Rollout, wanted: list[Effect]) -> bool:
    """Whether a command waits behind the one that is being answered; a new one would have ended the lease."""
    answered = {effect.command for effect in wanted if isinstance(effect, Answer)}
    if not answered:
        return False
    waiting = select(CommandRow.id).where(CommandRow.rollout_id == row.id, col(CommandRow.answered_at).is_(None))
    return any(command not in answered for command in session.exec(waiting))


def _stable(session: Session, row: Rollout, wanted: list[Effect]) -> str | None:
    """What the rollout is compared with; it remembers that once it takes the route."""
    if not any(isinstance(effect, TakeRoute) for effect in wanted):
        return row.stable
    route = session.get(Route, row.route)
    return ModelRef.model_validate(route.stable).model_version if route and route.stable else None
