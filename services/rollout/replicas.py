"""Forgets model servers that are no more, so that no rollout waits for them.

Nothing else says that a server is gone: one that is switched off, or cut off, says nothing at all. So agents report
every few minutes while their server answers, and one that has been silent for long is not waited for. It never counts
as having loaded anything: a server that is cut off but serves on gets no traffic of a candidate that it has not
confirmed, and is waited for again as soon as it reports.
"""

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from services.rollout.models import Replica, Rollout
from services.rollout.state import ACTIVE
from shared.clock import Clock
from shared.db import reading, transaction
from shared.events import ReplicaForgotten
from shared.leases import interrupt
from shared.messaging import emit
from shared.telemetry import get_logger

log = get_logger(__name__)
_PAUSE_SECONDS = 10.0


def silent(replicas: Sequence[Replica], now: datetime, limit: timedelta, *, listening: datetime) -> list[Replica]:
    """Those to be forgotten.

    Only where another server of the same base model has reported in time: when all are silent, it is the reports that
    do not arrive, and nothing is known of anybody.

    Args:
        limit: of silence.
        listening: since when; before that nobody is silent, because reports may be waiting to be heard.
    """
    def quiet(replica: Replica) -> bool:
        return now - max(replica.seen_at or replica.ready_at, listening) > limit

    reported = {replica.base_model for replica in replicas if not quiet(replica)}
    return [replica for replica in replicas if replica.forgotten_at is None and replica.says_alive and quiet(replica)
            and replica.base_model in reported]


class Forgetter:
    """Looks for silent replicas now and then; a `shared.service.Loop`. Any number of controllers may.

    Args:
        limit: of silence.
    """

    name = "replicas"

    def __init__(self, engine: Engine, clock: Clock, limit: timedelta) -> None:
        self._engine, self._clock, self._limit = engine, clock, limit
        self._listening = clock.now()

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`."""
        while not stop.is_set():
            self.step()
            self._clock.wait(stop, _PAUSE_SECONDS)

    def step(self) -> None:
        """One look."""
        now = self._clock.now()
        with reading(self._engine) as session:
            if not self._silent(session.exec(select(Replica)).all(), now):
                return
        with transaction(self._engine) as session:
            # Read anew under a lock: it may have reported, or another controller may have said so.
            locked = session.exec(select(Replica).order_by(Replica.id).with_for_update()).all()
            gone = self._silent(locked, now)
            for replica in gone:
                self._forget(session, replica, now)
            if gone:
                active = select(Rollout.id).where(col(Rollout.state).in_(ACTIVE)).order_by(Rollout.id)
                for rollout in session.exec(active).all():
                    interrupt(session, Rollout, rollout)

    def _silent(self, replicas: Sequence[Replica], now: datetime) -> list[Replica]:
        return silent(replicas, now, self._limit, listening=self._listening)

    def _forget(self, session: Session, replica: Replica, now: datetime) -> None:
        replica.forgotten_at = now
        seen_at = replica.seen_at or replica.ready_at
        log.warning("a model server has reported nothing for long; rollouts do not wait for it any more",
                    replica=replica.id, base_model=replica.base_model, seen_at=seen_at.isoformat(),
                    limit_seconds=self._limit.total_seconds())
        emit(session, ReplicaForgotten(replica=replica.id, base_model=replica.base_model, seen_at=seen_at),
             source="rollout", clock=self._clock, correlation_id=f"replica-{replica.id}")
