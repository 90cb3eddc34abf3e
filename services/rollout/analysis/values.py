"""The values that all tests of this package share, and their arithmetic on logs."""

import math

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Floats = npt.NDArray[np.float64]

# e^600: far beyond any threshold, and still a number in JSON.
LOG_CAP = 600.0


class Counts(BaseModel):
    """Bad events over a total; ``0 <= bad <= total``."""

    model_config = ConfigDict(frozen=True)

    bad: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(bad=self.bad + other.bad, total=self.total + other.total)

    @property
    def rate(self) -> float:
        """Share of bad events; 0 where nothing was counted."""
        return self.bad / self.total if self.total else 0.0


class Bounds(BaseModel):
    """What a guardrail's safety is measured against: the ratio `margin` (> 1) and the rate `tolerable` in (0, 1)."""

    model_config = ConfigDict(frozen=True)

    margin: float
    tolerable: float


class Interval(BaseModel):
    """A confidence interval and the estimate in it; `estimate` is None before anything was seen."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    estimate: float | None = None

    @property
    def opposite(self) -> "Interval":
        """That of the negative."""
        return Interval(low=-self.high, high=-self.low, estimate=None if self.estimate is None else -self.estimate)

    def joined(self, other: "Interval") -> "Interval":
        """The least that holds both, which misses no more often than either; the estimate is this one's."""
        return Interval(low=min(self.low, other.low), high=max(self.high, other.high), estimate=self.estimate)


def difference(stable: Interval, candidate: Interval) -> Interval:
    """Candidate minus stable; misses with a probability of at most the sum of those of the two."""
    known = stable.estimate is not None and candidate.estimate is not None
    estimate = (candidate.estimate or 0.0) - (stable.estimate or 0.0) if known else None
    return Interval(low=candidate.low - stable.high, high=candidate.high - stable.low, estimate=estimate)


def log_mixture(logs: Floats, log_prior: Floats) -> Floats:
    """Log of the prior-weighted sum over the last axis."""
    terms = logs + log_prior
    top = terms.max(axis=-1, keepdims=True)
    mixed: Floats = top[..., 0] + np.log(np.exp(terms - top).sum(axis=-1))
    return mixed


def e_value(log: float) -> float:
    """The e-value of a log, capped so that it stays a number in JSON."""
    return math.exp(min(float(log), LOG_CAP))
