"""Makes the HTTP calls that looks wanted, many at once, in a thread of its own. No look ever waits for it.

Each call is a row under a lease. It is attempted at least once: a controller that dies in the middle of one, or before
it has noted the answer, leaves the row, and when the lease has run out another attempt is made with the same
``webhook-id`` and body. Questions and messages have room of their own, so that messages to somebody who hangs do not
keep anybody's confirmation waiting.
"""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, cast

import httpx
from sqlalchemy import Engine

from services.rollout import metrics
from services.rollout.models import Rollout, WebhookCall
from services.rollout.webhook_http import Outcome, Sender
from shared.clock import Clock
from shared.db import on_commit, reading, transaction
from shared.leases import FREE, Lease, apply, claim_many, due, interrupt, release
from shared.telemetry import get_logger

log = get_logger(__name__)

Kind = Literal["ask", "tell"]
# Calls in the air at a time. Each is a socket and some kilobytes.
ROOM: Mapping[Kind, int] = {"ask": 128, "tell": 32}
# Commits come in crowds; this is how long the first of them waits for the others.
_GATHER_SECONDS = 0.05
FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(minutes=10)
# How late a look may hear of any other answer is its interval.
_AWAITED = frozenset({"confirm-rollout", "pre-rollout", "confirm-traffic-increase", "confirm-promotion"})


class Courier:
    """The loop.

    Args:
        owner: this replica's name.
        ttl: seconds after a call's own timeout until another replica may make it.
        interval: seconds between two looks for calls that become due again.
    """

    name = "webhooks"

    def __init__(
        self, engine: Engine, sender: Sender, clock: Clock, *, owner: str, ttl: float = 30.0, interval: float = 1.0
    ) -> None:
        self._engine, self._sender, self._clock = engine, sender, clock
        self._owner, self._ttl, self._interval = owner, timedelta(seconds=ttl), interval
        self._wake = on_commit(engine)
        self._tls = httpx.create_ssl_context()

    def run(self, stop: threading.Event) -> None:
        """Make calls until `stop`; a database error ends the loop, and with it the process."""
        asyncio.run(self._run(stop))

    def step(self) -> int:
        """Make every call that is due, once; how many there were."""
        return asyncio.run(self._step())

    async def _step(self) -> int:
        claimed = self._claim({})
        async with self._client() as client, asyncio.TaskGroup() as group:
            for row, lease in claimed:
                group.create_task(self._deliver(client, row, lease))
        return len(claimed)

    async def _run(self, stop: threading.Event) -> None:
        running: dict[asyncio.Task[None], Kind] = {}
        async with self._client() as client:
            try:
                while not stop.is_set():
                    self._wake.clear()
                    for row, lease in await asyncio.to_thread(self._claim, Counter(running.values())):
                        task = asyncio.create_task(self._deliver(client, row, lease))
                        running[task] = cast(Kind, row.state)
                    await asyncio.to_thread(self._wake.wait, self._interval)
                    await asyncio.sleep(_GATHER_SECONDS)
                    for task in [task for task in running if task.done()]:
                        del running[task]
                        task.result()
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    def _client(self) -> httpx.AsyncClient:
        """The timeout is the call's own. Proxies of the environment hold: receivers may be out in the world."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        return httpx.AsyncClient(verify=self._tls, timeout=None, limits=limits)  # noqa: S113 - Sender bounds each call

    def _claim(self, running: Mapping[Kind, int]) -> list[tuple[WebhookCall, Lease]]:
        now = self._clock.now()
        with reading(self._engine) as session:
            if session.exec(due(WebhookCall, list(ROOM), now)).first() is None:
                return []
        claimed: list[tuple[WebhookCall, Lease]] = []
        with transaction(self._engine) as session:
            for kind, room in ROOM.items():
                free = room - running.get(kind, 0)
                claimed += claim_many(session, WebhookCall, states=[kind], owner=self._owner, now=now, ttl=self._ttl,
                                      limit=free) if free > 0 else []
            for row, _ in claimed:
                row.lease_until = now + self._ttl + timedelta(seconds=row.timeout_seconds)
        return claimed

    async def _deliver(self, client: httpx.AsyncClient, row: WebhookCall, lease: Lease) -> None:
        now = self._clock.now()
        if row.lease_until is None or now >= row.lease_until:
            return  # this process slept: another one has the call by now
        try:
            outcome = await self._sender.send(client, row, now)
        except asyncio.CancelledError:
            # This process ends. Whether the call has arrived is not known, so another one makes it again, at once.
            self._give_back(lease)
            raise
        await asyncio.to_thread(self._store, row, lease, outcome)

    def _give_back(self, lease: Lease) -> None:
        with contextlib.suppress(Exception), transaction(self._engine) as session:
            release(session, WebhookCall, lease)

    def _store(self, row: WebhookCall, lease: Lease, outcome: Outcome) -> None:
        now = self._clock.now()
        values = after_attempt(row, outcome, now, jitter=random.random())  # noqa: S311
        with transaction(self._engine) as session:
            if not apply(session, WebhookCall, lease, **FREE, **values):
                log.info("a webhook's answer came too late and is dropped", rollout=row.rollout_id, webhook=row.webhook)
                return
        ended = values["ended_at"] is not None
        if ended and (row.type in _AWAITED or (row.type == "rollback" and outcome.ok)):
            # In a transaction of its own: a look locks the rollout first and then the call.
            with transaction(self._engine) as session:
                interrupt(session, Rollout, row.rollout_id)
        word = word_of(row, outcome, ended=ended)
        metrics.called(row, word)
        say = log.info if word in ("ok", "refused") else log.warning
        say("webhook called", rollout=row.rollout_id, webhook=row.webhook, type=row.type, attempt=values["attempts"],
            of=row.most_attempts, said=outcome.said, again_at=str(values["next_look_at"] or ""))


def word_of(row: WebhookCall, outcome: Outcome, *, ended: bool) -> str:
    """What an attempt is counted as. A question may be refused; a message that is not taken has failed."""
    if outcome.ok:
        return "ok"
    if not ended:
        return "retried"
    return "failed" if row.state == "tell" or outcome.again else "refused"


def after_attempt(row: WebhookCall, outcome: Outcome, now: datetime, *, jitter: float) -> dict[str, Any]:
    """What a call's row says after an attempt.

    Args:
        jitter: from 0 to 1; spreads the retries of many calls over half of the delay.
    """
    attempts = row.attempts + 1
    values = {"attempts": attempts, "ok": outcome.ok, "said": outcome.said, "next_look_at": None, "ended_at": None}
    if not outcome.ok and outcome.again and attempts < row.most_attempts:
        return values | {"next_look_at": now + delay_after(attempts, outcome.after, jitter)}
    if row.state == "ask":
        return values | {"state": "answered", "ended_at": now}
    return values | {"state": "delivered" if outcome.ok else "failed", "ended_at": now}


def delay_after(attempts: int, asked: timedelta | None, jitter: float) -> timedelta:
    """Until the next attempt: twice as long each time, and no less than the receiver asked for."""
    doubled: timedelta = FIRST_DELAY * 2 ** min(attempts - 1, 16)
    delay = min(LONGEST_DELAY, doubled) * (0.5 + jitter / 2)
    return max(delay, asked) if asked else delay
