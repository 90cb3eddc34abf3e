"""The statistics of a canary: evidence that may be looked at after every scrape without spending its guarantee.

Everything here is pure. A guardrail is a count of bad events over a total, for the stable version and for the
candidate, and one *look* is the increments of those four counts since the look before. The evidence is a set of
e-processes, products over looks of likelihood ratios, so by Ville's inequality

    P(the evidence ever reaches 1/a while the null hypothesis holds) <= a

however often one looks, whenever one stops, and whatever the share of traffic or the base rate do in between.

**Two versions** (Lindon & Malek, NeurIPS 2022, arXiv 2205.14762). Let `w` be the candidate's realised share of a
look's total, and `rho` the candidate's bad rate over stable's. Given all bad events of the look, those of the candidate
are Binomial(bad, q) with q = w rho / (1 - w + w rho). A look multiplies the evidence for `rho1` against `rho0` by

    (q1/q0)^x ((1-q1)/(1-q0))^y        x, y: bad events of the candidate and of stable

The Binomial is exact for rare (Poisson) events. For requests that each fail or not it is conservative at *any* rate:
with m and n requests at rates p = rho0 r and r, the factor's expectation is

    (1 + p (q1/q0 - 1))^m  (1 + r ((1-q1)/(1-q0) - 1))^n

Each part is at most exp of its linear term, and those terms cancel. The factor is monotone in x, so the one-sided
nulls (``rho <= 1`` for harm, ``rho >= margin`` for safety) are covered too.

**One rate against a bound.** Without any bad event the ratio above never moves, so safety has a second test: the
candidate's rate against `tolerableRate`, by the binomial likelihood ratio, null ``rate >= tolerableRate``.

**Mixtures.** The true ratio is unknown, so each test is an average over a fixed grid of alternatives with prior
weights: an average of products, kept per alternative in log space. (A product of averages would be something else.)

**Safe** means: the ratio is below the margin *or* the rate is below what is tolerable. Its null is that both are
exceeded, under which both tests are e-processes, so their average is one. (Their maximum is not.)

What this does not cover: bad events that come in clusters, many from one user, are not independent and look like more
evidence than they are.
"""

import math
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Floats = npt.NDArray[np.float64]

# Alternatives for harm, as candidate's rate over stable's. From "a quarter more" to "everything fails".
HARM_RATIOS: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
# Alternatives for safety, as shares of the bound that is tested. The lowest is what a faultless candidate climbs on.
SAFE_SHARES: tuple[float, ...] = (0.02, 0.15, 0.4, 0.7)
SAFE_WEIGHTS: tuple[float, ...] = (0.55, 0.2, 0.15, 0.1)

_HARM = np.array(HARM_RATIOS)
_SAFE = np.array(SAFE_SHARES)
_HARM_PRIOR = np.full(len(HARM_RATIOS), -math.log(len(HARM_RATIOS)))
_SAFE_PRIOR = np.log(np.array(SAFE_WEIGHTS))
# e^600: far beyond any threshold, and still a number in JSON.
_LOG_CAP = 600.0


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


def ratio_steps(stable: npt.ArrayLike, candidate: npt.ArrayLike, ratios: Floats, null: float) -> Floats:
    """Log-likelihood ratios of one look for each alternative ratio against `null`.

    Args:
        stable: ``[..., 2]`` bad events and total of the stable version in this look.
        candidate: the same of the candidate.
        ratios: the alternatives, ``[grid]``.
        null: the ratio at the null hypothesis' boundary.

    Returns:
        ``[..., grid]``; zeros where one side saw no traffic, because nothing can be compared then.
    """
    s, c = np.asarray(stable, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    comparable = (s[..., 1] > 0) & (c[..., 1] > 0)
    odds = np.where(comparable, c[..., 1] / np.where(s[..., 1] > 0, s[..., 1], 1.0), 1.0)[..., None]
    # log q and log(1 - q) of q = odds rho / (1 + odds rho), against the same at the null.
    spread = np.log1p(odds * null) - np.log1p(odds * ratios)
    steps: Floats = c[..., :1] * (np.log(ratios / null) + spread) + s[..., :1] * spread
    return np.where(comparable[..., None], steps, 0.0)


def rate_steps(candidate: npt.ArrayLike, rates: Floats, null: float) -> Floats:
    """Log-likelihood ratios of one look for each alternative rate against `null`; shapes as in `ratio_steps`."""
    c = np.asarray(candidate, dtype=np.float64)
    good = c[..., 1:] - c[..., :1]
    steps: Floats = c[..., :1] * np.log(rates / null) + good * (np.log1p(-rates) - math.log1p(-null))
    return steps


def log_mixture(logs: Floats, log_prior: Floats) -> Floats:
    """Log of the prior-weighted sum over the last axis."""
    terms = logs + log_prior
    top = terms.max(axis=-1, keepdims=True)
    mixed: Floats = top[..., 0] + np.log(np.exp(terms - top).sum(axis=-1))
    return mixed


def log_harm(logs: Floats) -> Floats:
    """Log e-value for harm from accumulated `harm_steps`."""
    return log_mixture(logs, _HARM_PRIOR)


def log_safe(ratio_logs: Floats, rate_logs: Floats) -> Floats:
    """Log e-value for safety: the average of the two tests' e-values."""
    both = np.stack([log_mixture(ratio_logs, _SAFE_PRIOR), log_mixture(rate_logs, _SAFE_PRIOR)], axis=-1)
    return log_mixture(both, np.full(2, -math.log(2.0)))


def harm_steps(stable: npt.ArrayLike, candidate: npt.ArrayLike) -> Floats:
    """One look's contribution to the harm test: every ratio of `HARM_RATIOS` against 1."""
    return ratio_steps(stable, candidate, _HARM, 1.0)


def safe_steps(stable: npt.ArrayLike, candidate: npt.ArrayLike, bounds: Bounds) -> tuple[Floats, Floats]:
    """One look's contribution to the two safety tests: against the margin, and against the tolerable rate."""
    return (
        ratio_steps(stable, candidate, _SAFE * bounds.margin, bounds.margin),
        rate_steps(candidate, _SAFE * bounds.tolerable, bounds.tolerable),
    )


class Evidence(BaseModel):
    """What one guardrail has shown so far. Immutable; `updated` gives the next value; JSON loses nothing.

    Attributes:
        stable: counts since the evidence began.
        candidate: the same of the candidate.
        harm: accumulated logs per alternative of the harm test.
        ratio: of the safety test against the margin.
        rate: of the safety test against the tolerable rate.
    """

    model_config = ConfigDict(frozen=True)

    stable: Counts = Counts()
    candidate: Counts = Counts()
    harm: tuple[float, ...] = (0.0,) * len(HARM_RATIOS)
    ratio: tuple[float, ...] = (0.0,) * len(SAFE_SHARES)
    rate: tuple[float, ...] = (0.0,) * len(SAFE_SHARES)

    def updated(self, stable: Counts, candidate: Counts, bounds: Bounds) -> Self:
        """The evidence after one more look, given that look's increments."""
        s, c = (stable.bad, stable.total), (candidate.bad, candidate.total)
        ratio, rate = safe_steps(s, c, bounds)
        return type(self)(
            stable=self.stable + stable,
            candidate=self.candidate + candidate,
            harm=_added(self.harm, harm_steps(s, c)),
            ratio=_added(self.ratio, ratio),
            rate=_added(self.rate, rate),
        )

    @property
    def e_harm(self) -> float:
        """Evidence that the candidate's bad rate is above stable's; 1 at the start."""
        return _exp(log_harm(np.array(self.harm)))

    @property
    def e_safe(self) -> float:
        """Evidence that the candidate's bad rate is below the margin or below the tolerable rate; 1 at the start."""
        return _exp(log_safe(np.array(self.ratio), np.array(self.rate)))


def _added(logs: tuple[float, ...], steps: Floats) -> tuple[float, ...]:
    return tuple(float(log + step) for log, step in zip(logs, steps, strict=True))


def _exp(log: Floats) -> float:
    return math.exp(min(float(log), _LOG_CAP))
