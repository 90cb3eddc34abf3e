"""A betting confidence sequence for the mean of bounded values, such as scores of a judge (Waudby-Smith & Ramdas,
JRSS-B 2024, arXiv 2010.09686). Pure.

For each possible mean m a gambler bets on every value x that the mean is not m:

    K+ <- K+ (1 + b (x - m))      K- <- K- (1 - b (x - m))      0 <= b so small that neither can go broke

If m is the true mean, neither capital grows in expectation whatever the distribution, and so neither does their
average: it reaches 1/alpha with probability at most alpha. The means at which it has not are the confidence set, at all
times. The bet is the paper's predictable plug-in: from the past's variance only, so a low spread is found and used.
"""

import math
from collections.abc import Iterable
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.rollout.analysis.values import Floats, Interval, difference

# Means that are considered, as shares of the range.
GRID = 201
_MEANS: Floats = np.linspace(0.0, 1.0, GRID)
# A gambler keeps this share of what could be lost at once.
_KEPT = 0.5


class BettingMean(BaseModel):
    """What the values so far say about their mean. Immutable; `updated` gives the next; JSON loses nothing.

    Attributes:
        low, high: what values can be; one outside is an error.
        alpha: the chance that the interval ever misses the mean.
        n: values so far; `total` and `squares` are their sum and squared sum, scaled to [0, 1].
        up, down: logs of the capitals, per mean of the grid.
    """

    model_config = ConfigDict(frozen=True)

    low: float = 0.0
    high: float = 1.0
    alpha: float = Field(default=0.05, gt=0, lt=1)
    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    up: tuple[float, ...] = (0.0,) * GRID
    down: tuple[float, ...] = (0.0,) * GRID

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, but they are {self.low:g} and {self.high:g}")
        return self

    def updated(self, values: Iterable[float]) -> Self:
        """After more values, in the order in which they came.

        Raises:
            ValueError: a value outside the range, or not a number.
        """
        n, total, squares = self.n, self.total, self.squares
        up, down = np.array(self.up), np.array(self.down)
        for value in values:
            x = self._scaled(value)
            bet = _bet(n, total, squares, self.alpha)
            up += np.log1p(np.minimum(bet, _KEPT / np.maximum(_MEANS, 1e-12)) * (x - _MEANS))
            down += np.log1p(-np.minimum(bet, _KEPT / np.maximum(1.0 - _MEANS, 1e-12)) * (x - _MEANS))
            n, total, squares = n + 1, total + x, squares + x * x
        return self.model_copy(update={
            "n": n, "total": total, "squares": squares, "up": tuple(up.tolist()), "down": tuple(down.tolist()),
        })

    @property
    def interval(self) -> Interval:
        """The mean, at all times with probability 1 - `alpha`. Wider than the set by at most a step of the grid."""
        capital = np.logaddexp(np.array(self.up), np.array(self.down)) - math.log(2.0)
        alive = np.flatnonzero(capital < math.log(1.0 / self.alpha))
        mean = self.total / self.n if self.n else None
        if len(alive) == 0:  # between two means of the grid
            centre = round((mean or 0.0) * (GRID - 1))
            alive = np.array([centre])
        first, last = max(int(alive[0]) - 1, 0), min(int(alive[-1]) + 1, GRID - 1)
        return Interval(
            low=self._unscaled(float(_MEANS[first])), high=self._unscaled(float(_MEANS[last])),
            estimate=None if mean is None else self._unscaled(mean),
        )

    def _scaled(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise ValueError(f"the value {value:g} is outside of [{self.low:g}, {self.high:g}]")
        return (value - self.low) / (self.high - self.low)

    def _unscaled(self, share: float) -> float:
        return self.low + share * (self.high - self.low)


def mean_difference(stable: BettingMean, candidate: BettingMean) -> Interval:
    """Candidate's mean minus stable's; misses with a probability of at most the sum of the two alphas."""
    return difference(stable.interval, candidate.interval)


def _bet(n: int, total: float, squares: float, alpha: float) -> float:
    """The paper's predictable plug-in, from what was before this value."""
    mean = (0.5 + total) / (n + 1)
    variance = (0.25 + max(squares - 2 * mean * total + n * mean * mean, 0.0)) / (n + 1)
    t = n + 1
    return math.sqrt(2.0 * math.log(2.0 / alpha) / (variance * t * math.log(t + 1)))
