"""Which replica gets the next request: the one with the fewest in flight, leaving out those that refuse connections.

Pure bookkeeping on one event loop; time comes from outside. The weights of the split never depend on it.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.gateway.plan import Endpoint


@dataclass
class _Health:
    failures: int = 0
    skip_until: float = 0.0


class Balancer:
    """Chooses among endpoints.

    Args:
        failures: failed connects in a row after which an endpoint is skipped while others exist.
        seconds: for how long.
    """

    def __init__(self, *, failures: int, seconds: float) -> None:
        self._failures = failures
        self._seconds = seconds
        self._in_flight: Counter[str] = Counter()
        self._health: dict[str, _Health] = {}
        self._turn = 0

    def choose(self, endpoints: Sequence[Endpoint], now: float, tried: Collection[str] = ()) -> Endpoint | None:
        """The endpoint to ask next; None when all were tried. An ejected one is better than none."""
        left = [endpoint for endpoint in endpoints if endpoint.url not in tried]
        well = [endpoint for endpoint in left if not self._ejected(endpoint.url, now)]
        choices = well or left
        if not choices:
            return None
        # Among equals take turns, or the first replica of the list would get every request of a quiet route.
        self._turn += 1
        start = self._turn % len(choices)
        return min(choices[start:] + choices[:start], key=lambda endpoint: self._in_flight[endpoint.url])

    def started(self, url: str) -> None:
        """A request goes to `url`."""
        self._in_flight[url] += 1

    def finished(self, url: str) -> None:
        """That request is over, however it ended."""
        self._in_flight[url] -= 1
        if self._in_flight[url] <= 0:
            del self._in_flight[url]

    def connected(self, url: str) -> None:
        """`url` took a connection."""
        self._health.pop(url, None)

    def refused(self, url: str, now: float) -> bool:
        """`url` could not be connected to; True if this ejects it."""
        health = self._health.setdefault(url, _Health())
        health.failures += 1
        ejects = health.failures >= self._failures and now >= health.skip_until
        if health.failures >= self._failures:
            health.skip_until = now + self._seconds
        return ejects

    def keep_only(self, urls: Collection[str]) -> None:
        """Forget the health of replicas that the table no longer names."""
        self._health = {url: health for url, health in self._health.items() if url in urls}

    def _ejected(self, url: str, now: float) -> bool:
        health = self._health.get(url)
        return health is not None and now < health.skip_until
