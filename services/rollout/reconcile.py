"""The controller's loop body: look at the world, ask decide.py, and have store.py write the answer."""

import time
from collections.abc import Sequence
from functools import lru_cache

import orjson
from sqlalchemy import Engine
from sqlmodel import col, select

from services.rollout import metrics
from services.rollout.batch import Batch
from services.rollout.decide import step
from services.rollout.facts import Facts, learn
from services.rollout.models import Rollout
from services.rollout.observe import observe
from services.rollout.prometheus import Prometheus
from services.rollout.state import ACTIVE, RolloutState
from services.rollout.store import Conclusion, Store
from services.rollout.withdrawals import crossed_at
from shared.clock import Clock
from shared.db import reading
from shared.leases import Lease
from shared.pipeline import RolloutPolicy
from shared.reconcile import ReconcileLoop
from shared.webhooks import Notification

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
        self._store = Store(engine, clock, notifications)
        self._quiet: list[Conclusion] = []
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
            reconcile=self, ttl=ttl, interval=interval, batch=BATCH, prepare=self.prepare, finish=self.finish,
        )

    def __call__(self, row: Rollout, lease: Lease) -> bool:
        """One look; True, because the lease ends with the write, which `finish` makes where nobody waits for it."""
        begun = time.thread_time()
        try:
            self._look(row, lease)
        finally:
            self._tick.looked(row.id, time.thread_time() - begun, self._clock.now())
        return True

    def _look(self, row: Rollout, lease: Lease) -> None:
        before = RolloutState.model_validate(row.data)
        policy = _policy(orjson.dumps(row.policy))
        samples = self._samples.after(before.looked_at)
        if row.id not in self._facts:
            self.prepare([row])
        known = self._facts.pop(row.id).about(row)
        seen = observe(known, samples, row, before, policy=policy, now=self._clock.now())
        # A slow Prometheus must not make the decision older than it is.
        now = self._clock.now()
        after, wanted = step(before, seen, now, policy)
        found = Conclusion(row, lease, policy, before, after, wanted, now, crossed_at(seen, after.fired))
        if found.quiet:
            self._quiet.append(found)
        else:
            self._store.one(found)

    def finish(self) -> None:
        """Store the looks that changed nothing but what is known."""
        found, self._quiet = self._quiet, []
        begun = time.thread_time()
        self._store.together(found)
        self._tick.stored([each.row.id for each in found], time.thread_time() - begun)

    def _routes(self) -> Sequence[str]:
        """The routes with a rollout in flight."""
        with reading(self._engine) as session:
            return session.exec(select(Rollout.route).where(col(Rollout.state).in_(ACTIVE)).distinct()).all()


@lru_cache(maxsize=1024)
def _policy(stored: bytes) -> RolloutPolicy:
    """From its JSON; a rollout keeps the policy that it was made with for hundreds of looks."""
    return RolloutPolicy.model_validate(orjson.loads(stored))
