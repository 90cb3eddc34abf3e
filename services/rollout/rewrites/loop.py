"""Keeps each route's InferenceModelRewrite as the route says: when the route changes, and where somebody changed it.

The route's row is the truth, and a row of its own (`Rewrite`) remembers how far the cluster is. A controller looks
under that row's lease; one that lost it, or that read an older route, is kept from writing by what manifest.py puts
into the object.
"""

import threading
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlmodel import select

from services.rollout import metrics
from services.rollout.models import Rewrite, Route
from services.rollout.rewrites.api import RewriteApi
from services.rollout.rewrites.manifest import Apply, Create, Pool, manifest, name_of, plan
from services.rollout.routes import targets_of
from services.rollout.settings import RolloutSettings
from services.rollout.withdrawals import Confirmed, Waiting
from shared.clock import Clock
from shared.db import on_commit, reading, transaction
from shared.errors import TemporaryError, TuneloopError
from shared.leases import FREE, Lease, apply, interrupt
from shared.messaging.inbox import insert_new
from shared.reconcile import ReconcileLoop
from shared.telemetry import get_logger

log = get_logger(__name__)


class RewriteLoop:
    """Looks at the objects of all routes; a `shared.service.Loop`.

    Args:
        pools: the InferencePool of each base model.
        check: how often an object is looked at whose route has not changed.
        owner, ttl, interval: as of `ReconcileLoop`.
    """

    name = "rewrites"

    def __init__(
        self, engine: Engine, api: RewriteApi, pools: dict[str, Pool], clock: Clock, *, owner: str,
        check: timedelta = timedelta(seconds=30), ttl: float = 30.0, interval: float = 1.0,
    ) -> None:
        self._engine, self._api, self._pools, self._clock = engine, api, pools, clock
        self._check, self._interval = check, interval
        self._wake = on_commit(engine)
        self._looks = ReconcileLoop(
            name=self.name, engine=engine, model=Rewrite, states=["kept"], owner=owner, clock=clock,
            reconcile=self._look, ttl=ttl, interval=interval,
        )

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`."""
        while not stop.is_set():
            self._wake.clear()
            if not self.step():
                self._wake.wait(self._interval)

    def step(self) -> bool:
        """One look that is due; False if none was."""
        self._follow_routes()
        return self._looks.step()

    def _follow_routes(self) -> None:
        """A row for each new route; a look at once for each that has changed."""
        with reading(self._engine) as session:
            known = {row.id: row.wanted for row in session.exec(select(Rewrite))}
            routes = {route.id: route.revision for route in session.exec(select(Route))}
        behind = {route: revision for route, revision in routes.items() if known.get(route, -1) < revision}
        if not behind:
            return
        with transaction(self._engine) as session:
            rows = [Rewrite(id=route, state="kept").model_dump() for route in behind if route not in known]
            insert_new(session, Rewrite, rows, unique=["id"], returning="id")
            for route, revision in behind.items():
                interrupt(session, Rewrite, route, wanted=revision)

    def _look(self, row: Rewrite, lease: Lease) -> bool:
        with reading(self._engine) as session:
            route = session.get(Route, row.id)
        if route is None:
            raise TemporaryError(f"the route {row.id} is not in the database")
        try:
            done = self._carry_out(route)
        except TuneloopError as error:
            # To be seen beside the route as well as in the log; the lease stays for the loop to end it.
            with transaction(self._engine) as session:
                apply(session, Rewrite, lease, problem=str(error))
            delay = error.delay if isinstance(error, TemporaryError) else None
            raise TemporaryError(str(error), delay=delay) from error
        now = self._clock.now()
        values: dict[str, Any] = {"revision": route.revision, "problem": "", "next_look_at": now + self._check}
        moved = isinstance(done, Create) or (isinstance(done, Apply) and done.moves_traffic)
        if moved:
            values["changed_at"] = now
        with transaction(self._engine) as session:
            if apply(session, Rewrite, lease, **FREE, **values):
                metrics.REWRITE_REVISION.labels(row.id).set(route.revision)
        self._tell(row, route, done)
        return True

    def _carry_out(self, route: Route) -> Create | Apply | None:
        pool = self._pools.get(route.base_model)
        if pool is None:
            raise TemporaryError(
                f"route {route.id}: no InferencePool is known for the base model {route.base_model}; name it in "
                "TUNELOOP_INFERENCE_POOLS"
            )
        wanted = manifest(route.id, route.revision, route.base_model, targets_of(route), pool)
        done = plan(self._api.get(name_of(route.id)), wanted)
        match done:
            case Create():
                self._api.create(wanted)
            case Apply():
                self._api.apply(wanted, done.resource_version)
        return done

    def _tell(self, row: Rewrite, route: Route, done: Create | Apply | None) -> None:
        vanished = isinstance(done, Create) and row.revision == route.revision
        if vanished or (isinstance(done, Apply) and done.drifted):
            metrics.REWRITE_REPAIRS.labels(row.id).inc()
            log.warning("an InferenceModelRewrite was not as its route says and was repaired; somebody changes it",
                        route=row.id, name=name_of(row.id), revision=route.revision, deleted=vanished)
        elif done is not None:
            log.info("an InferenceModelRewrite says what its route says", route=row.id, revision=route.revision)


class Rewrites:
    """Confirms by what the API server has taken; llm-d's routers watch it. See `withdrawals.Confirmations`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, route: str, revision: int, now: datetime) -> Confirmed | Waiting:  # noqa: ARG002 - no clock is asked
        """Whether the object says what the revision or a later one wants."""
        with reading(self._engine) as session:
            row = session.get(Rewrite, route)
        if row is None or row.changed_at is None:
            return Waiting(f"there is no InferenceModelRewrite of the route yet: {row.problem if row else ''}")
        if row.revision < revision:
            return Waiting(f"the InferenceModelRewrite has revision {row.revision} and not yet {revision}: "
                           f"{row.problem or 'it is being applied'}")
        return Confirmed(row.changed_at, gateways=1)


def rewrite_loop(settings: RolloutSettings, engine: Engine, clock: Clock, *, owner: str) -> RewriteLoop:
    """The loop of `settings`.

    Raises:
        InvalidInputError: it is not known where the cluster is.
    """
    from shared.kubernetes_api import connect

    client, namespace = connect(
        settings.kubeconfig, settings.rewrite_namespace, setting="TUNELOOP_REWRITE_NAMESPACE",
        reason="TUNELOOP_TRAFFIC_BACKEND is inference-model-rewrite",
    )
    pools = {base: Pool(name, settings.inference_pool_group) for base, name in settings.inference_pools.items()}
    return RewriteLoop(
        engine, RewriteApi(client, namespace), pools, clock, owner=owner,
        check=timedelta(seconds=settings.rewrite_check_seconds), ttl=settings.lease_ttl_seconds,
        interval=settings.reconcile_interval_seconds,
    )
