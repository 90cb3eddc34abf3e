"""Which replica gets the next request: the one with the fewest in flight, leaving out those that fail.

Pure bookkeeping on one event loop; time comes from outside. The weights of the split never depend on it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.gateway.plan import Endpoint


@dataclass
class _Health:
    """A circuit breaker. It opens at the limit of either count, and one request that goes well closes it."""

    refusals: int = 0
    failures: int = 0
    open_until: float | None = None
    probing: bool = False


class Balancer:
    """Chooses among endpoints.

    Args:
        failures: failed connects in a row, or failed answers in a row, that open an endpoint's breaker: it is skipped
            while others exist.
        seconds: for how long. Then one request at a time tries it, until one goes well.
    """

    def __init__(self, *, failures: int, seconds: float) -> None:
        self._failures = failures
        self._seconds = seconds
        self._in_flight: dict[str, int] = {}
        self._health: dict[str, _Health] = {}
        self._turn = 0

    def choose(self, endpoints: Sequence[Endpoint], now: float, tried: Collection[str] = ()) -> Endpoint | None:
        """The endpoint to ask next; None when all were tried. An ejected one is better than none."""
        left = [endpoint for endpoint in endpoints if endpoint.url not in tried] if tried else endpoints
        well = [endpoint for endpoint in left if not self._ejected(endpoint.url, now)] if self._health else left
        choices = well or left
        if len(choices) <= 1:
            return choices[0] if choices else None
        # Among equals take turns, or the first replica of the list would get every request of a quiet route.
        self._turn += 1
        start = self._turn % len(choices)
        return min([*choices[start:], *choices[:start]], key=lambda endpoint: self._in_flight.get(endpoint.url, 0))

    def started(self, url: str, now: float) -> None:
        """A request goes to `url`."""
        self._in_flight[url] = self._in_flight.get(url, 0) + 1
        health = self._health.get(url)
        if health is not None and health.open_until is not None and now >= health.open_until:
            health.probing = True

    def finished(self, url: str) -> None:
        """That request is over, however it ended."""
        left = self._in_flight.pop(url) - 1
        if left:
            self._in_flight[url] = left
        elif health := self._health.get(url):
            # A probe that proved nothing, because its client left, makes room for the next one.
            health.probing = False

    def connected(self, url: str) -> None:
        """`url` took a connection. That alone does not make up for answers that failed."""
        if health := self._health.get(url):
            health.refusals = 0
            if health.failures < self._failures:
                health.open_until = None

    def answered(self, url: str) -> None:
        """`url` answered, and not with its own failure."""
        self._health.pop(url, None)

    def refused(self, url: str, now: float) -> bool:
        """`url` could not be connected to; True if this ejects it."""
        health = self._health.setdefault(url, _Health())
        health.refusals += 1
        return self._open(health, health.refusals, now)

    def failed(self, url: str, now: float) -> bool:
        """`url` answered 5xx, broke off or was silent for too long; True if this ejects it."""
        health = self._health.setdefault(url, _Health())
        health.failures += 1
        return self._open(health, health.failures, now)

    def keep_only(self, urls: Collection[str]) -> None:
        """Forget the health of replicas that the table no longer names."""
        self._health = {url: health for url, health in self._health.items() if url in urls}

    def _open(self, health: _Health, count: int, now: float) -> bool:
        health.probing = False
        if count < self._failures:
            return False
        ejects = health.open_until is None or now >= health.open_until
        health.open_until = now + self._seconds
        return ejects

    def _ejected(self, url: str, now: float) -> bool:
        health = self._health.get(url)
        if health is None or health.open_until is None:
            return False
        return now < health.open_until or health.probing
