"""Tells the controller which units met what, by their fingerprints, so that it counts each once whoever met it.

A user may come to several gateways, and to one that has restarted and forgotten. Counters of such gateways cannot be
added up: only names can be compared. What waits is said once a second, in order, and stays until Kafka has it.
"""

import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter

from services.gateway.sender import EventSender, GaveUpError, Parcel
from shared.events import Event, MetUnits, UnitsMet

# In one event: what the controller stores in one transaction.
_MOST_IN_EVENT = 1000


class Met(NamedTuple):
    """What a unit met; the attributes of `MetUnits`."""

    label: str
    event: str
    seconds: float | None
    times: int


@dataclass
class _Waiting:
    """Of one route, with when each was met. `sent` of the first are in Kafka's hands; `offered`: the sender will come
    for more."""

    salt: str
    units: deque[tuple[Met, int, float]] = field(default_factory=deque)
    sent: int = 0
    offered: bool = False


class UnitTeller:
    """`tell` is for the event loop; the rest happens in the sender's thread.

    Args:
        limit: units of a route that wait at most; further ones are lost, and counted.
        now: Unix time.
    """

    def __init__(
        self, sender: EventSender, registry: CollectorRegistry, limit: int, now: Callable[[], float] = time.time
    ) -> None:
        self._sender = sender
        self._limit = limit
        self._now = now
        self._lock = Lock()
        self._routes: dict[str, _Waiting] = {}
        name = "tuneloop_gateway_units"
        self._told = Counter(f"{name}_told_total", "Units that Kafka has heard of, by what they met", registry=registry)
        self._lost = Counter(
            f"{name}_untold_total", "Units that the controller will not hear of from here", registry=registry
        )

    def tell(self, route: str, salt: str, met: Met, unit: int) -> None:
        """Say soon that a unit met something. What waits of another salt is of no use any more."""
        with self._lock:
            waiting = self._routes.get(route)
            if waiting is None or waiting.salt != salt:
                waiting = self._routes[route] = _Waiting(salt)
            if len(waiting.units) >= self._limit:
                self._lost.inc()
                return
            waiting.units.append((met, unit, self._now()))
        self._offer(route, waiting)

    def _offer(self, route: str, waiting: _Waiting) -> None:
        """One parcel at a time, so that a failure keeps the order; it takes with it what has come until it goes."""
        with self._lock:
            if waiting.offered or not waiting.units:
                return
            waiting.offered = True
        parcel = Parcel(partial(self._event, route, waiting), size=0, done=partial(self._done, route, waiting))
        if not self._sender.offer(parcel):
            waiting.offered = False

    def _event(self, route: str, waiting: _Waiting) -> Event[Any]:
        with self._lock:
            units = list(islice(waiting.units, _MOST_IN_EVENT))
            waiting.sent = len(units)
        return Event(
            data=UnitsMet(route=route, salt=waiting.salt, met=grouped([(met, unit) for met, unit, _ in units])),
            source=UnitsMet.PRODUCER, time=datetime.fromtimestamp(units[0][2], UTC),
            correlation_id=uuid.uuid4().hex, sequence=1,
        )

    def _done(self, route: str, waiting: _Waiting, error: Exception | None) -> None:
        """What Kafka did not take is said again; what cannot even be written down is lost."""
        with self._lock:
            sent, waiting.sent, waiting.offered = waiting.sent, 0, False
            if not isinstance(error, GaveUpError):
                for _ in range(sent):
                    waiting.units.popleft()
                (self._told if error is None else self._lost).inc(sent)
            current = self._routes.get(route) is waiting
        if current:
            self._offer(route, waiting)


def grouped(units: Sequence[tuple[Met, int]]) -> list[MetUnits]:
    """Units by what they met."""
    by: dict[Met, list[str]] = {}
    for met, unit in units:
        by.setdefault(met, []).append(f"{unit:016x}")
    return [
        MetUnits(model_version=met.label, event=met.event, seconds=met.seconds, times=met.times, units=marks)
        for met, marks in by.items()
    ]
