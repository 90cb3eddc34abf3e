"""How long texts are, in bounded memory. Counted in characters: tokens depend on the model. Pure."""

import math
from collections import Counter

from pydantic import BaseModel

# Eight buckets for each doubling: a quantile is at most 9 % too high.
_BUCKETS_PER_DOUBLING = 8
_QUANTILES = (0.5, 0.9, 0.99)


class LengthProfile(BaseModel):
    """A summary of lengths in characters; quantiles are upper bounds, at most 9 % above the true ones."""

    count: int
    min: int
    mean: float
    p50: int
    p90: int
    p99: int
    max: int


class LengthCounter:
    """Counts lengths into buckets that grow with the length."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._total = 0
        self._min, self._max = math.inf, 0

    def add(self, length: int) -> None:
        """Count one text of `length` characters."""
        self._buckets[_bucket(length)] += 1
        self._total += length
        self._min, self._max = min(self._min, length), max(self._max, length)

    def profile(self) -> LengthProfile | None:
        """The summary; None where nothing was counted."""
        count = self._buckets.total()
        if not count:
            return None
        p50, p90, p99 = (self._quantile(share, count) for share in _QUANTILES)
        mean = round(self._total / count, 2)
        return LengthProfile(count=count, min=int(self._min), mean=mean, p50=p50, p90=p90, p99=p99, max=self._max)

    def _quantile(self, share: float, count: int) -> int:
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= share * count:
                return min(_upper_bound(bucket), self._max)
        return self._max


def _bucket(length: int) -> int:
    return 0 if length <= 1 else math.ceil(math.log2(length) * _BUCKETS_PER_DOUBLING)


def _upper_bound(bucket: int) -> int:
    return math.floor(2 ** (bucket / _BUCKETS_PER_DOUBLING))
