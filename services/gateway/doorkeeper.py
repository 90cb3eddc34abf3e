"""Who may come in: API keys, how often each may ask, and for which routes."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Gauge

from services.gateway import errors
from services.gateway.bucket import TokenBucket
from services.gateway.request import Headers, bearer
from services.gateway.series import Counter, Number
from shared.api_keys import ApiKey, KeyRing

Outcome = Literal["admitted", "rate_limited", "expired"]
_OUTCOMES: tuple[Outcome, ...] = ("admitted", "rate_limited", "expired")
# Headers that are remembered, times the number of keys: `Bearer` may be written and spaced in many ways.
_MOST_SPELLINGS = 4


class Caller(Protocol):
    """Who asks. `id` is empty for somebody who needed no key."""

    @property
    def id(self) -> str: ...

    def may_use(self, route: str) -> bool: ...


class _Anyone:
    """Everybody, where the gateway has no keys."""

    id = ""

    def may_use(self, _: str) -> bool:
        return True


ANYONE: Caller = _Anyone()
# Looks at a request's headers before its body is read; raises `ApiError` to refuse it.
Admission = Callable[[Headers], Caller]


def admit_anyone(_: Headers) -> Caller:
    """The admission of a gateway without keys."""
    return ANYONE


class KeyMetrics:
    """What is counted about keys; series by id, as many as the file has."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name = "tuneloop_gateway_api_key"
        self.requests = Counter(
            f"{name}_requests_total", "Requests with a known key: admitted, rate_limited, expired", ["key", "outcome"],
            registry=registry,
        )
        self.keys = Gauge(f"{name}s", "Keys in use", registry=registry)
        self.file_ok = Gauge(
            f"{name}s_file_ok", "1 while the file of keys is good; 0 while the last good one is used instead",
            registry=registry,
        )
        self._ids: set[str] = set()

    def use(self, ids: set[str]) -> None:
        """Begin a new key's series at 0, and end those of keys that are gone."""
        for outcome in _OUTCOMES:
            for key in ids - self._ids:
                self.requests.labels(key, outcome)
            for key in self._ids - ids:
                self.requests.remove(key, outcome)
        self._ids = ids
        self.keys.set(len(ids))


class _Pass:
    """What a header that was good once leads to, without hashing its key again."""

    __slots__ = ("admitted", "bucket", "entry")

    def __init__(self, entry: ApiKey, bucket: TokenBucket, admitted: Number) -> None:
        self.entry = entry
        self.bucket = bucket
        self.admitted = admitted


class Doorkeeper:
    """Admits requests by their keys. On one event loop; `use` too.

    A key is hashed when it is first seen; its header is remembered until the keys change. Only headers of good keys
    are, so strangers cannot fill the memory, and `dict` hashes with a secret of the process, so that the time of a
    look-up tells them nothing.

    Args:
        clock: seconds that only go forward, for the rates.
        now: UTC, for the ends of keys.
    """

    def __init__(
        self, metrics: KeyMetrics, *, clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._ring = KeyRing()
        self._buckets: dict[str, TokenBucket] = {}
        self._passes: dict[bytes, _Pass] = {}

    def use(self, ring: KeyRing) -> None:
        """Go by these keys from now on. A key that stays has spent what it has spent."""
        now, before = self._clock(), self._buckets
        self._buckets = {}
        for entry in ring.keys.values():
            rate = entry.requests_per_minute / 60
            bucket = before.get(entry.id) or TokenBucket(rate, entry.burst, now)
            bucket.change(rate, entry.burst, now)
            self._buckets[entry.id] = bucket
        self._ring = ring
        self._passes = {}
        self._metrics.use(set(ring.keys))

    def admit(self, headers: Headers) -> Caller:
        """Who asks.

        Raises:
            ApiError: 401 without a key that is good now; 429 where the key asks too often.
        """
        known = self._passes.get(headers.get(b"authorization", b"")) or self._look_up(headers)
        entry = known.entry
        if entry.expires is not None and entry.expired(self._now()):
            self._refused(entry.id, "expired")
            raise errors.expired_key(entry.id)
        wait = known.bucket.take(self._clock())
        if wait > 0:
            self._refused(entry.id, "rate_limited")
            raise errors.rate_limited(entry.id, entry.requests_per_minute, math.ceil(wait))
        known.admitted.value += 1
        return entry

    def _look_up(self, headers: Headers) -> _Pass:
        presented = bearer(headers)
        entry = self._ring.find(presented)
        if entry is None:
            raise errors.no_key() if not presented else errors.unknown_key()
        known = _Pass(entry, self._buckets[entry.id], self._metrics.requests.labels(entry.id, "admitted"))
        if len(self._passes) < _MOST_SPELLINGS * len(self._ring.keys):
            self._passes[headers[b"authorization"]] = known
        return known

    def _refused(self, key: str, outcome: Outcome) -> None:
        self._metrics.requests.labels(key, outcome).value += 1
