"""Level-triggered work on rows: look at the world, decide, act idempotently, write what follows, look again later.

What a handler cannot wait for (a training job of hours) is a row here. The loop remembers nothing that matters: after
a crash the row is found as it was, by this process or another, and the world is looked at again.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Generic

from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import Engine, func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select
from structlog.contextvars import bound_contextvars

from shared.clock import Clock
from shared.db import on_commit, reading, transaction
from shared.errors import TemporaryError
from shared.gauges import ask
from shared.leases import Lease, Row, claim_many, due, release, renew
from shared.telemetry import get_logger

log = get_logger(__name__)

RECONCILED = Counter("tuneloop_reconciled", "Looks at a row: ok or failed.", ["loop", "outcome"])
LOOK_SECONDS = Histogram(
    "tuneloop_reconcile_seconds", "How long one look at a row takes.", ["loop"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
ROWS = Gauge("tuneloop_reconcile_rows", "Rows in a state in which there is something to do.", ["loop", "state"])
MAX_DELAY_SECONDS = 60.0


class ReconcileLoop(Generic[Row]):
    """Calls `reconcile` for each row of `model` that is due, one after another, each under a lease.

    Args:
        states: the states in which there is something to do.
        owner: this replica's name.
        reconcile: gets the row as it was claimed, and the lease to name in `shared.leases.apply`. It may take long:
            the lease is renewed meanwhile. What it raises is logged, and the row is looked at again later. It answers
            True where it has ended the lease itself (`shared.leases.FREE`).
        ttl: seconds after which a silent owner loses the row.
        interval: seconds until the next look where `reconcile` left `next_look_at` as it was.
        batch: at most this many rows are claimed at once, where looks are short and rows are many.
        prepare: gets the rows that were claimed at once before the first of them is looked at.
        finish: is called after the last of them, while their leases are still renewed. For what `reconcile` has put
            off, and True was answered for.
    """

    def __init__(
        self,
        *,
        name: str,
        engine: Engine,
        model: type[Row],
        states: Sequence[str],
        owner: str,
        clock: Clock,
        reconcile: Callable[[Row, Lease], bool | None],
        ttl: float = 30.0,
        interval: float = 1.0,
        batch: int = 1,
        prepare: Callable[[Sequence[Row]], None] | None = None,
        finish: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._engine = engine
        self._model = model
        self._states = list(states)
        self._owner = owner
        self._clock = clock
        self._reconcile = reconcile
        self._ttl = timedelta(seconds=ttl)
        self._interval = interval
        self._wake = on_commit(engine)
        self._failures: dict[str, int] = {}
        self._busy = False
        self._batch = batch
        self._prepare = prepare
        self._finish = finish

    def run(self, stop: threading.Event) -> None:
        """Reconcile until `stop`; a database error ends the loop, and with it the process."""
        self._watch()
        while not stop.is_set():
            self._wake.clear()
            if not self.step():
                self._wake.wait(self._interval)

    def _watch(self) -> None:
        """Let the series of this loop exist before it has anything to do."""
        for outcome in ("ok", "failed"):
            RECONCILED.labels(self.name, outcome)
        LOOK_SECONDS.labels(self.name)
        for state in self._states:
            ask(ROWS.labels(self.name, state), partial(self._count, state))

    def _count(self, state: str) -> float:
        """Rows in a state."""
        with reading(self._engine) as session:
            query = select(func.count()).select_from(self._model).where(col(self._model.state) == state)
            return session.exec(query).one()

    def step(self) -> bool:
        """Work on one row that is due, or on one batch; False if there was none."""
        # Claiming takes SQLite's write lock, so an idle loop only reads; after a row there often is another.
        if not self._busy and not self._any_due():
            return False
        with transaction(self._engine) as session:
            claimed = claim_many(
                session, self._model, states=self._states, owner=self._owner, now=self._clock.now(), ttl=self._ttl,
                limit=self._batch,
            )
        self._busy = bool(claimed)
        if claimed:
            with self._heartbeat(sorted((lease for _, lease in claimed), key=lambda lease: lease.row_id)):
                if self._prepare is not None:
                    self._prepare([row for row, _ in claimed])
                for row, lease in claimed:
                    self._work(row, lease)
                self._end_batch()
        return True

    def _end_batch(self) -> None:
        """Have done what was put off. Whose rows that fails for are looked at again when their leases have ended."""
        try:
            if self._finish is not None:
                self._finish()
        except Exception as error:
            log.warning("what looks had put off has failed; looking again later", loop=self.name, error=repr(error),
                        exc_info=error)
            RECONCILED.labels(self.name, "failed").inc()

    def _any_due(self) -> bool:
        with reading(self._engine) as session:
            return session.exec(due(self._model, self._states, self._clock.now())).first() is not None

    def _work(self, row: Row, lease: Lease) -> None:
        with bound_contextvars(loop=self.name, row=lease.row_id, correlation_id=getattr(row, "correlation_id", None)):
            freed = None
            try:
                with LOOK_SECONDS.labels(self.name).time():
                    freed = self._reconcile(row, lease)
            except Exception as error:
                # One row's trouble must not stop the others.
                delay = self._delay_after(lease.row_id, error)
                log.warning(
                    "a look at a row failed; looking again later", seconds=delay, error=repr(error),
                    exc_info=None if isinstance(error, TemporaryError) else error,
                )
                RECONCILED.labels(self.name, "failed").inc()
            else:
                self._failures.pop(lease.row_id, None)
                delay = self._interval
                RECONCILED.labels(self.name, "ok").inc()
            if not freed:
                self._give_back(row, lease, delay)

    def _give_back(self, row: Row, lease: Lease, delay: float) -> None:
        """End the lease; where nobody said when to look again, after `delay`."""
        later = self._clock.now() + timedelta(seconds=delay)
        with transaction(self._engine) as session:
            release(session, self._model, lease, unless_moved=(row.next_look_at, later))

    def _delay_after(self, row_id: str, error: Exception) -> float:
        count = self._failures[row_id] = self._failures.get(row_id, 0) + 1
        delay = min(MAX_DELAY_SECONDS, self._interval * 2.0 ** min(count, 16))
        asked = error.delay if isinstance(error, TemporaryError) else None
        return max(delay, asked.total_seconds()) if asked else delay

    @contextmanager
    def _heartbeat(self, leases: Sequence[Lease]) -> Iterator[None]:
        """Renew the leases in a thread of its own until the block ends; those that are lost or given back stay so."""
        done = threading.Event()
        thread = threading.Thread(target=self._renew, args=(leases, done), name=f"{self.name}-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew(self, leases: Sequence[Lease], done: threading.Event) -> None:
        while leases and not done.wait(self._ttl.total_seconds() / 3):
            try:
                with transaction(self._engine) as session:
                    now = self._clock.now()
                    leases = [lease for lease in leases if renew(session, self._model, lease, now=now, ttl=self._ttl)]
            except SQLAlchemyError as error:
                # The epoch protects the rows; the next beat may be in time still.
                log.warning("a heartbeat failed", error=str(error))
