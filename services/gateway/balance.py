"""Which replica gets the next request: the one with the fewest in flight, leaving out those that fail.

Pure bookkeeping on one event loop; time comes from outside. The weights of the split never depend on it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.gateway.plan import Endpoint


@dataclass
class _Breaker:
    """Opens at the limit of failures in a row; then one request that goes well closes it."""

    count: int = 0
    open_until: float | None = None
    probing: bool = False

    def shuts_out(self, now: float) -> bool:
        """Whether nobody is to be sent there now."""
        return self.open_until is not None and (now < self.open_until or self.probing)


class Balancer:
    """Chooses among endpoints.

    A replica that takes no connections is skipped by all; one that fails to answer, by requests for the same model
    only: a bad candidate must not cost the stable version its replicas.

    Args:
        failures: failed connects in a row, or failed answers of one model in a row, that open a breaker: the endpoint
            is skipped while others exist.
        seconds: for how long. Then one request at a time tries it, until one goes well.
    """

    def __init__(self, *, failures: int, seconds: float) -> None:
        self._failures = failures
        self._seconds = seconds
        self._in_flight: dict[str, int] = {}
        self._refusing: dict[str, _Breaker] = {}
        self._failing: dict[tuple[str, str], _Breaker] = {}
        self._turn = 0

    def choose(
        self, endpoints: Sequence[Endpoint], model: str, now: float, tried: Collection[str] = ()
    ) -> Endpoint | None:
        """The endpoint to ask next; None when all were tried. An ejected one is better than none."""
        left = [endpoint for endpoint in endpoints if endpoint.url not in tried] if tried else endpoints
        if self._refusing or self._failing:
            well = [endpoint for endpoint in left if not self._ejected(endpoint.url, model, now)]
        else:
            well = []
        choices = well or left
        if len(choices) <= 1:
            return choices[0] if choices else None
        # Among equals take turns, or the first replica of the list would get every request of a quiet route.
        self._turn += 1
        start = self._turn % len(choices)
        return min([*choices[start:], *choices[:start]], key=lambda endpoint: self._in_flight.get(endpoint.url, 0))

    def started(self, url: str, model: str, now: float) -> None:
        """A request for `model` goes to `url`."""
        self._in_flight[url] = self._in_flight.get(url, 0) + 1
        if self._refusing or self._failing:
            for breaker in self._breakers(url, model):
                if breaker.open_until is not None and now >= breaker.open_until:
                    breaker.probing = True

    def finished(self, url: str, model: str) -> None:
        """That request is over, however it ended."""
        left = self._in_flight.pop(url) - 1
        if left:
            self._in_flight[url] = left
        if self._refusing or self._failing:
            # A probe that proved nothing, because its client left, makes room for the next one.
            for breaker in self._breakers(url, model):
                breaker.probing = False

    def connected(self, url: str) -> None:
        """`url` took a connection. That alone does not make up for answers that failed."""
        self._refusing.pop(url, None)

    def answered(self, url: str, model: str) -> None:
        """`url` answered for `model`, and not with its own failure."""
        self._refusing.pop(url, None)
        self._failing.pop((url, model), None)

    def refused(self, url: str, now: float) -> bool:
        """`url` could not be connected to; True if this ejects it."""
        return self._failed(self._refusing.setdefault(url, _Breaker()), now)

    def failed(self, url: str, model: str, now: float) -> bool:
        """`url` answered 5xx for `model`, broke off or was silent for too long; True if this ejects it."""
        return self._failed(self._failing.setdefault((url, model), _Breaker()), now)

    def keep_only(self, urls: Collection[str]) -> None:
        """Forget the health of replicas that the table no longer names."""
        self._refusing = {url: breaker for url, breaker in self._refusing.items() if url in urls}
        self._failing = {key: breaker for key, breaker in self._failing.items() if key[0] in urls}

    def _failed(self, breaker: _Breaker, now: float) -> bool:
        breaker.count += 1
        breaker.probing = False
        if breaker.count < self._failures:
            return False
        ejects = breaker.open_until is None or now >= breaker.open_until
        breaker.open_until = now + self._seconds
        return ejects

    def _breakers(self, url: str, model: str) -> list[_Breaker]:
        found = (self._refusing.get(url), self._failing.get((url, model)))
        return [breaker for breaker in found if breaker is not None]

    def _ejected(self, url: str, model: str, now: float) -> bool:
        return any(breaker.shuts_out(now) for breaker in self._breakers(url, model))
