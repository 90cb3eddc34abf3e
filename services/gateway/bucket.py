"""A token bucket: so many requests at once, so many a second in the long run. Pure: time is passed in."""


class TokenBucket:
    """Full at first.

    Args:
        rate: tokens a second.
        burst: tokens that it holds at most.
        now: seconds on any clock that only goes forward.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take one token and return 0.0; or take none and return the seconds until there is one."""
        self._refill(now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def change(self, rate: float, burst: int, now: float) -> None:
        """Another rate and size from now on; what was spent stays spent."""
        self._refill(now)
        self._rate, self._burst = rate, burst
        self._tokens = min(self._tokens, float(burst))

    def _refill(self, now: float) -> None:
        passed = now - self._at
        if passed <= 0:
            return
        self._at = now
        tokens = self._tokens + passed * self._rate
        self._tokens = tokens if tokens < self._burst else float(self._burst)
