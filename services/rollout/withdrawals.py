"""How long harm went on after it was in a scrape: until every gateway had the route without the candidate's weight.

The controller's decision is no proof that traffic has moved, so the gateways are asked, by their own metrics: which
revision of the route they serve, and since when its versions have their present weights. That time is the gateway's,
so a late scrape makes the answer late and not wrong. What is waited for here holds nothing back: the rollout itself
has ended by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Engine

from services.rollout import metrics
from services.rollout.models import Withdrawal
from services.rollout.observation import Observation
from services.rollout.prometheus import Prometheus
from services.rollout.samples import NoData, Sample
from shared.clock import Clock
from shared.db import transaction
from shared.gateway_metrics import ROUTE_REVISION, SPLIT_SINCE
from shared.leases import FREE, Lease, apply
from shared.reconcile import ReconcileLoop
from shared.telemetry import get_logger

log = get_logger(__name__)

LOOK = timedelta(seconds=1)
# Longer than Prometheus remembers a gateway that is gone, after which only the others are asked.
GIVE_UP = timedelta(minutes=10)


@dataclass(frozen=True)
class Confirmed:
    """All have it.

    Attributes:
        at: since when the last of them has.
        gateways: how many there are.
    """

    at: datetime
    gateways: int


@dataclass(frozen=True)
class Waiting:
    """Somebody has not said so; `reason` is for people."""

    reason: str


class Confirmations(Protocol):
    """Who carries out what a route says."""

    def of(self, route: str, revision: int, now: datetime) -> Confirmed | Waiting:
        """Whether all of them serve a revision of the route or a later one."""
        ...


class Gateways:
    """The gateways that Prometheus has scraped in the last five minutes.

    One that is silent, but was there, is waited for: it may serve on where Prometheus cannot see it.
    """

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus

    def of(self, route: str, revision: int, now: datetime) -> Confirmed | Waiting:
        """By their metrics; without them, why there are none."""
        revisions = self._prometheus.recent(f'{ROUTE_REVISION}{{route="{route}"}}', now)
        if isinstance(revisions, NoData):
            return Waiting(revisions.reason)
        since = self._prometheus.recent(f'{SPLIT_SINCE}{{route="{route}"}}', now)
        return Waiting(since.reason) if isinstance(since, NoData) else confirmation(revisions, since, revision, now)


def confirmation(
    revisions: Sequence[Sample], since: Sequence[Sample], revision: int, now: datetime
) -> Confirmed | Waiting:
    """What the gateways' samples say about a revision of their route.

    Args:
        revisions: the one that each gateway serves.
        since: Unix times from which on each has its present split.
    """
    if not revisions:
        return Waiting("Prometheus knows no gateway that serves the route")
    for sample in revisions:
        if sample.value < revision:
            age = now.timestamp() - sample.at
            return Waiting(f"{sample.target} had revision {sample.value:.0f} and not yet {revision}, {age:.0f} s ago")
    times = {sample.target: sample.value for sample in since}
    if silent := sorted({sample.target for sample in revisions} - times.keys()):
        return Waiting(f"{silent[0]} does not show {SPLIT_SINCE}; is it older than this controller?")
    return Confirmed(datetime.fromtimestamp(max(times.values()), UTC), len(times))


def crossed_at(seen: Observation, guardrail: str) -> datetime | None:
    """When the newest of the candidate's samples was scraped that a guardrail was judged by; None where none was."""
    found = seen.readings.get(guardrail, ())
    if isinstance(found, NoData):
        return None
    newest = max((reading.at for reading in found if reading.version == seen.candidate), default=0.0)
    return datetime.fromtimestamp(newest, UTC) if newest else None


class Watcher:
    """Looks at withdrawals until they are confirmed; for `shared.reconcile.ReconcileLoop`."""

    def __init__(self, engine: Engine, confirmations: Confirmations, clock: Clock) -> None:
        self._engine, self._confirmations, self._clock = engine, confirmations, clock

    def loop(self, *, owner: str, ttl: float = 30.0, interval: float = 1.0) -> ReconcileLoop[Withdrawal]:
        """The loop that takes the looks; the arguments are those of `ReconcileLoop`."""
        return ReconcileLoop(
            name="withdrawals", engine=self._engine, model=Withdrawal, states=["waiting"], owner=owner,
            clock=self._clock, reconcile=self, ttl=ttl, interval=interval,
        )

    def __call__(self, row: Withdrawal, lease: Lease) -> bool:
        """One look; True where the lease ended with the write."""
        now = self._clock.now()
        found = self._confirmations.of(row.route, row.revision, now)
        values: dict[str, Any] = {"waiting": "", "next_look_at": None}
        if isinstance(found, Confirmed):
            # A gateway that never gave the candidate anything has had its split for longer.
            values |= {"state": "confirmed", "confirmed_at": max(found.at, row.decided_at), "gateways": found.gateways}
        elif now - row.decided_at > GIVE_UP:
            values |= {"state": "unconfirmed", "waiting": found.reason}
        else:
            values |= {"waiting": found.reason, "next_look_at": now + LOOK}
        with transaction(self._engine) as session:
            if not apply(session, Withdrawal, lease, **FREE, **values):
                return True
        _tell(row, values)
        return True


def _tell(row: Withdrawal, values: dict[str, Any]) -> None:
    """Log and count how it ended, once it has."""
    if "state" not in values:
        return
    metrics.WITHDRAWALS.labels(values["state"]).inc()
    if values["state"] == "unconfirmed":
        log.warning("gateways have not confirmed that a candidate has no traffic; look at those named",
                    rollout=row.id, route=row.route, revision=row.revision, reason=values["waiting"])
        return
    confirmed = values["confirmed_at"]
    decided = (confirmed - row.decided_at).total_seconds()
    metrics.WITHDRAWAL.labels("decision").observe(decided)
    sampled = (confirmed - row.sampled_at).total_seconds() if row.sampled_at else None
    if sampled is not None:
        metrics.WITHDRAWAL.labels("sample").observe(sampled)
    log.info("all gateways have taken the candidate's weight away", rollout=row.id, route=row.route,
             gateways=values["gateways"], seconds_from_decision=decided, seconds_from_sample=sampled)
