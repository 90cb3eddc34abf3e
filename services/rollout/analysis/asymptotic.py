"""An asymptotic confidence sequence for the difference of two shares, with one observation for each look. Pure.

By Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 2024, arXiv 2103.06476. For what names no user: events that come together within a look
(a session's ten, a counter that counts several for a request) are as little evidence as they are, because nothing is
assumed of events, but that looks are independent of each other.

**Observations.** Of look t, b bad events of n were counted, of stable (s) and of the candidate (c). The estimate is the
difference of the ratios of sums, B_c / N_c - B_s / N_s, and each look's influence on it (the delta method) is

    psi_t / T = (b_c - p_c n_c) / N_c - (b_s - p_s n_s) / N_s        p = B / N, after T looks

So a look counts as much as it has events: one after an outage, with all that was missed, much; one with data of one
version only, for that version. The squares' sum, V, is the estimate's variance, and a quadratic form of the second
moments of (b_s, n_s, b_c, n_c), so these are all that has to be remembered.

**Boundary** (Proposition 2.5 there, with V = T sigma^2 / T^2):

    estimate +- sqrt( 2 (T rho^2 + 1) / (T rho^2) V log( sqrt(T rho^2 + 1) / alpha ) )

with rho^2 = (-2 log alpha + log(1 - 2 log alpha)) / T*, for which it is about as narrow as it can be after T* looks.

**What is assumed while little was seen**, chosen by simulation, so that it misses at most as often as it may with 5 to
60 requests a look, shares from 2 to 40 % and weights from 10 % (tests/simulation/test_rollout_asymptotic.py):

- Nothing is said, [-1, 1], before both versions have `LEAST` looks, as if all were as large (N^2 over the sum of n^2).
- V is taken (k / (k - 2)) times as large, for k such looks, because two shares were estimated from them.
- V is at least that of clumps as large as those seen (1 event, or as much as V exceeds the variance of independent
  events), of which each version has had `UNSEEN` bad and as many good ones more (Agresti & Coull, 1998, do so with
  events). Otherwise a version without bad events would have none for sure.

**What it cannot see.** Looks must be independent. If the same few users are behind the bad events of look after look,
the interval is too narrow, and nothing that sees only counters can know it. `clumps.py` needs users to be counted. And
the weight must stay: while it rises, one version has more of the good hours than the other.
"""

import math
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from services.rollout.analysis.values import Counts, Floats, Interval

# From so many looks of equal size on it says something. It is narrowest, for its level, after so many.
LEAST, BEST = 25.0, 240.0
# Bad clumps that each version is taken to have had beside those that were seen, and as many good ones.
UNSEEN = 9.0
# Wider than what anything can differ by.
_ALL = 2.0
_NONE = ((0, 0, 0, 0),) * 4


class LookSums(BaseModel):
    """What the looks so far say about the difference of two shares. Immutable; JSON loses nothing.

    Attributes:
        looks: with events.
        sums: of bad and all events of stable, and bad and all of the candidate.
        products: sums of the products of each two of these, look by look; symmetric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    looks: int = 0
    sums: tuple[int, int, int, int] = (0, 0, 0, 0)
    products: tuple[tuple[int, int, int, int], ...] = _NONE

    def updated(self, stable: Counts, candidate: Counts) -> Self:
        """After one more look; one without events is none."""
        look = (stable.bad, stable.total, candidate.bad, candidate.total)
        if stable.total + candidate.total == 0:
            return self
        return self.model_copy(update={
            "looks": self.looks + 1, "sums": tuple(a + b for a, b in zip(self.sums, look, strict=True)),
            "products": tuple(tuple(known + a * b for known, b in zip(row, look, strict=True))
                              for row, a in zip(self.products, look, strict=True)),
        })

    @property
    def of_equal_size(self) -> float:
        """How many looks of equal size say as much, of the version that has fewer of them."""
        return float(equal_looks(np.array(self.sums, dtype=float), np.array(self.products, dtype=float)))

    def interval(self, alpha: float) -> Interval:
        """The candidate's share minus stable's, at all times with a probability of about 1 - `alpha`."""
        if 0 in (self.sums[1], self.sums[3]):
            return Interval(low=-1.0, high=1.0)
        middle, half = difference_by_look(self.looks, self.sums, self.products, alpha)
        return Interval(low=max(float(middle - half), -1.0), high=min(float(middle + half), 1.0),
                        estimate=float(middle))


def difference_by_look(
    looks: npt.ArrayLike, sums: npt.ArrayLike, products: npt.ArrayLike, alpha: float
) -> tuple[Floats, Floats]:
    """The difference, candidate's minus stable's, and half of the interval's width; shapes as of `looks`.

    Args:
        looks: ``[...]`` those with events.
        sums: ``[..., 4]`` as in `LookSums`.
        products: ``[..., 4, 4]`` as there.
    """
    t, x, squares = (np.asarray(values, dtype=np.float64) for values in (looks, sums, products))
    bad, total = x[..., 0::2], np.maximum(x[..., 1::2], 1.0)
    share = bad / total
    influence = np.stack([-1.0 / total[..., 0], share[..., 0] / total[..., 0],
                          1.0 / total[..., 1], -share[..., 1] / total[..., 1]], axis=-1)
    equal = equal_looks(x, squares)
    seen = np.einsum("...i,...ij,...j->...", influence, squares, influence) * equal / np.maximum(equal - 2.0, 1.0)
    variance = np.maximum(seen, _least_variance(bad, total, seen))
    times = np.maximum(t, 1.0) * (-2.0 * math.log(alpha) + math.log1p(-2.0 * math.log(alpha))) / BEST
    half = np.sqrt(variance * (1.0 + 1.0 / times) * (np.log1p(times) - 2.0 * math.log(alpha)))
    return share[..., 1] - share[..., 0], np.where(equal >= LEAST, half, _ALL)


def equal_looks(sums: Floats, products: Floats) -> Floats:
    """How many looks of equal size would say as much (Kish, 1965), of the version that has fewer; ``[...]``."""
    total, squares = sums[..., 1::2], np.stack([products[..., 1, 1], products[..., 3, 3]], axis=-1)
    fewer: Floats = (total * total / np.maximum(squares, 1.0)).min(axis=-1)
    return fewer


def _least_variance(bad: Floats, total: Floats, seen: Floats) -> Floats:
    """That of clumps as large as those seen, with some more of them than were; ``[..., 2]`` events, ``[...]`` seen."""
    independent = (bad * (total - bad) / total**3).sum(axis=-1)
    clump = np.maximum(seen / np.where(independent > 0, independent, np.inf), 1.0)[..., None]
    more = total + 2.0 * UNSEEN * clump
    share = (bad + UNSEEN * clump) / more
    least: Floats = (clump * share * (1.0 - share) / more).sum(axis=-1)
    return least
