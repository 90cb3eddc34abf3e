"""The controller's loop body: look at the world, ask decide.py, and store the answer with all its effects at once.

State, route table, decisions, answers to people and events commit in one transaction that begins with the fenced write
of the rollout's row. So a controller that lost its lease writes nothing, and a crash at any point loses a whole look or
nothing of it.
"""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from services.rollout import metrics
from services.rollout.batch import Batch
from services.rollout.decide import next_look, step
from services.rollout.effects import Effects
from services.rollout.facts import Facts, learn
from services.rollout.models import CommandRow, Rollout, Route
from services.rollout.observe import observe
from services.rollout.prometheus import Prometheus
from services.rollout.state import ACTIVE, TERMINAL, RolloutState
from services.rollout.wanted import Answer, Effect, TakeRoute
from services.rollout.withdrawals import crossed_at
from shared.clock import Clock
from shared.db import reading, transaction
from shared.events import ModelRef
from shared.leases import FREE, Lease, apply
from shared.pipeline import RolloutPolicy
from shared.reconcile import ReconcileLoop
from shared.telemetry import get_logger
from shared.webhooks import Notification

log = get_logger(__name__)

# Rows that one claim takes. Each waits for those before it, and all for the heartbeat if the controller is killed.
BATCH = 50


class Reconciler:
    """Takes one look at one rollout; for `shared.reconcile.ReconcileLoop`."""

    def __init__(
        self, engine: Engine, prometheus: Prometheus, clock: Clock, notifications: Sequence[Notification] = ()
    ) -> None:
        self._engine = engine
        self._samples = Batch(prometheus, self._routes)
        self._clock = clock
        self._notifications = notifications
        self._facts: dict[str, Facts] = {}
        self._tick = metrics.TickCpu()

    def prepare(self, rows: Sequence[Rollout]) -> None:
        """Read what bears on the rows that were claimed together."""
        begun = time.thread_time()
        with reading(self._engine) as session:
            facts = learn(session, rows)
        self._facts = dict.fromkeys([row.id for row in rows], facts)
        self._tick.prepared(len(rows), time.thread_time() - begun, self._clock.now())

    def loop(self, *, owner: str, ttl: float = 30.0, interval: float = 1.0) -> ReconcileLoop[Rollout]:
        """The loop that takes the looks; the arguments are those of `ReconcileLoop`."""
        return ReconcileLoop(
            name="rollouts", engine=self._engine, model=Rollout, states=sorted(ACTIVE), owner=owner, clock=self._clock,
            reconcile=self, ttl=ttl, interval=interval, batch=BATCH, prepare=self.prepare,
        )

    def __call__(self, row: Rollout, lease: Lease) -> bool:
        """One look; True, because the lease ends with the write."""
        begun = time.thread_time()
        try:
            self._look(row, lease)
        finally:
            self._tick.looked(row.id, time.thread_time() - begun, self._clock.now())
        return True

    def _look(self, row: Rollout, lease: Lease) -> None:
        before = RolloutState.model_validate(row.data)
        policy = RolloutPolicy.model_validate(row.policy)
        samples = self._samples.after(before.looked_at)
        if row.id not in self._facts:
            self.prepare([row])
        known = self._facts.pop(row.id).about(row)
        seen = observe(known, samples, row, before, policy=policy, now=self._clock.now())
        # A slow Prometheus must not make the decision older than it is.
        now = self._clock.now()
        after, wanted = step(before, seen, now, policy)
        with transaction(self._engine) as session:
            stable = _stable(session, row, wanted)
            values: dict[str, Any] = {
                "state": after.phase, "data": after.model_dump(mode="json"), "updated_at": now,
                "finished_at": now if after.phase in TERMINAL else None, "next_look_at": next_look(after, now, policy),
                "stable": stable,
            }
            if _more_commands(session, row, wanted):
                values["next_look_at"] = now
            if not apply(session, Rollout, lease, **FREE, **values):
                log.warning("the lease is lost; this look is dropped", rollout=row.id, epoch=lease.epoch)
                return
            effects = Effects(
                session=session, clock=self._clock, rollout=row, policy=policy, before=before, after=after, now=now,
                stable=stable, notifications=self._notifications, sampled_at=crossed_at(seen, after.fired),
            )
            effects.carry_out(wanted)
        metrics.publish(row, after, policy, now)
        for record in effects.recorded:
            metrics.decided(row, record, now)
            log.info("decision", rollout=row.id, action=record.action, rule=record.rule, reason=record.reason)

    def _routes(self) -> Sequence[str]:
        """The routes with a rollout in flight."""
        with reading(self._engine) as session:
            return session.exec(select(Rollout.route).where(col(Rollout.state).in_(ACTIVE)).distinct()).all()


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
