"""Confidence sequences for a share of events and for a quantile: intervals that hold at all times at once. Pure.

Both rest on one e-process. If each of n events happens with probability p, and k did, then the Beta(a, b) mixture of
binomial likelihood ratios

    E(p) = B(a + k, b + n - k) / B(a, b) / (p^k (1 - p)^(n - k))

is one at the start and expects one ever after (Robbins 1970). By Ville's inequality {p : E(p) < 1/alpha} covers the
true p at *all* n with probability at least 1 - alpha, so one may stop at will. The order of events plays no part.

A quantile q of level p is where the share of values below it crosses p, so the same e-process at that one p bounds the
ranks between which q lies (Howard & Ramdas, Bernoulli 2022, arXiv 1906.09712, the beta-binomial case).
"""

import math
from collections.abc import Sequence

from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy

from services.rollout.analysis.values import Counts, Interval, difference


def log_share(k: float, n: float, p: float, prior: tuple[float, float] = (1.0, 1.0)) -> float:
    """Log of E(p): evidence against the share `p` after `k` of `n`; +inf where p is impossible."""
    a, b = prior
    return float(betaln(a + k, b + n - k) - betaln(a, b) - xlogy(k, p) - xlog1py(n - k, -p))


def share_interval(counts: Counts, alpha: float) -> Interval:
    """The share of bad events, at all times with probability 1 - `alpha`; [0, 1] before anything was seen."""
    k, n = counts.bad, counts.total
    if n == 0:
        return Interval(low=0.0, high=1.0)
    estimate, limit = k / n, math.log(1.0 / alpha)

    def over(p: float) -> float:
        return log_share(k, n, p) - limit

    # E is least at k/n, where it is below 1, and grows towards both ends.
    low = 0.0 if k == 0 else brentq(over, _tiny(estimate), estimate)
    high = 1.0 if k == n else brentq(over, estimate, 1.0 - _tiny(1.0 - estimate))
    return Interval(low=float(low), high=float(high), estimate=estimate)


def difference_interval(stable: Counts, candidate: Counts, alpha: float) -> Interval:
    """Candidate's share minus stable's. Each side spends half of `alpha`, so no assumption ties the two together."""
    return difference(share_interval(stable, alpha / 2), share_interval(candidate, alpha / 2))


def rank_interval(n: int, level: float, alpha: float) -> tuple[int, int]:
    """How many of `n` values may lie below the quantile of `level`, at least and at most.

    With ``(low, high)`` and the values sorted as x[1] <= ... <= x[n], the quantile is at least x[low] (without bound if
    `low` is 0) and at most x[high + 1] (without bound if `high` is n), at all n with probability 1 - `alpha`.
    """
    if n == 0:
        return 0, 0
    prior, limit = _prior(level), math.log(1.0 / alpha)
    middle = round(level * n)
    low, high = 0, middle
    while low < high:  # the least k that is not rejected
        k = (low + high) // 2
        low, high = (low, k) if log_share(k, n, level, prior) < limit else (k + 1, high)
    first = low
    low, high = middle, n
    while low < high:  # the greatest one
        k = (low + high + 1) // 2
        low, high = (k, high) if log_share(k, n, level, prior) < limit else (low, k - 1)
    return first, low


def bucket_quantile(bounds: Sequence[float], cumulative: Sequence[float], level: float, alpha: float) -> Interval:
    """A quantile as a histogram knows it: between which of its bounds it lies.

    Args:
        bounds: upper bounds of the buckets, rising, the last one ``inf``; values are not negative.
        cumulative: how many values are at most each bound.
        level: of the quantile, in (0, 1).

    Returns:
        `low` and `high` are bounds of buckets (0 at the very bottom, inf at the very top), and so is `estimate`: the
        upper bound of the bucket that holds the middle.
    """
    n = round(cumulative[-1])
    if n == 0:
        return Interval(low=0.0, high=math.inf)
    least, most = rank_interval(n, level, alpha)
    holding = [next(i for i, count in enumerate(cumulative) if count >= max(rank, 1))
               for rank in (least, math.ceil(level * n), min(most + 1, n))]
    bottom = 0.0 if least == 0 or holding[0] == 0 else bounds[holding[0] - 1]
    top = math.inf if most >= n else bounds[holding[2]]
    return Interval(low=bottom, high=top, estimate=bounds[holding[1]])


def _prior(level: float) -> tuple[float, float]:
    """As much weight as some hundred events around the level: narrow where watching usually ends, wide at the start."""
    weight = 100.0
    return weight * level, weight * (1.0 - level)


def _tiny(width: float) -> float:
    """Close enough to the end of the unit interval for E to be beyond any threshold."""
    return 1e-150 * (width or 1.0)
