"""How far a window of live samples is from its reference, and how surprising that is. Pure.

PSI (population stability index) is the sum of (p - q) ln(p / q) over buckets. Its usual cut-offs (0.1, 0.25) ignore
how many samples there are. Without drift, PSI / (1/n + 1/m) is about chi-squared with B - 1 degrees of freedom
(arXiv 2307.11878), which gives the threshold that is shown.

The p-value is made for looking again and again, and so it is more careful. All windows are compared with *one*
reference, and the errors of that reference are the same in all of them: p-values that take it for a fresh draw each
time would be small forever where the reference was unlucky once. So the reference's own error is a fixed shift, as
large as it is with probability 1 - `REFERENCE_RISK`, and n PSI is noncentral chi-squared around it. For all references
but that share, the p-value of a window without drift is uniform or larger, whatever came before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from shared.events import BucketShare

# Fewer rows say too little about what is usual.
MIN_REFERENCE = 50
REFERENCE_RISK = 0.01
# Below five expected, chi-squared is no approximation any more.
_EXPECTED = 5.0
SHOWN_QUANTILE = 0.99
_LARGEST = 3
_SMOOTHING = 0.5


@dataclass(frozen=True)
class Comparison:
    """A window against its reference.

    Attributes:
        statistic: PSI over groups of buckets; 0 where both are alike.
        threshold: what 99 of 100 windows without drift stay below, were each compared with a fresh reference.
        p_value: valid for looking again and again at the same reference.
        window: samples; `reference`: rows.
        largest: the buckets that changed most.
    """

    statistic: float
    threshold: float
    p_value: float
    window: int
    reference: int
    largest: list[BucketShare]


def compare(labels: Sequence[str], reference: Sequence[int], window: Sequence[int]) -> Comparison | None:
    """The comparison of counts in the same buckets; None where one side has too few to say anything."""
    q, p = np.asarray(reference, dtype=float), np.asarray(window, dtype=float)
    m, n = q.sum(), p.sum()
    if m < MIN_REFERENCE or n == 0:
        return None
    groups, rare = _groups(q, n)
    grouped_q, grouped_p = _summed(groups, q), _summed(groups, p)
    rare_q, rare_p = q[rare].sum(), p[rare].sum()
    all_q = np.append(grouped_q, rare_q) if rare else grouped_q
    all_p = np.append(grouped_p, rare_p) if rare else grouped_p
    return Comparison(
        statistic=_psi(all_q, all_p), threshold=_threshold(len(all_q), n, m),
        p_value=_p_value(grouped_q, grouped_p, rare_q, rare_p, bool(rare)), window=int(n), reference=int(m),
        largest=_largest(labels, q / m, p / n),
    )


def _groups(q: np.ndarray, n: float) -> tuple[list[list[int]], list[int]]:
    """Buckets put together until each group can be expected to have enough of both sides, and those that are left."""
    m = q.sum()
    enough = max(_EXPECTED, _EXPECTED * m / n)
    groups, pack, weight = [[int(i)] for i in np.flatnonzero(q >= enough)], list[int](), 0.0
    for index in np.flatnonzero(q < enough):
        pack.append(int(index))
        weight += q[index]
        if weight >= enough:
            groups.append(pack)
            pack, weight = [], 0.0
    return groups, pack


def _summed(groups: Sequence[Sequence[int]], counts: np.ndarray) -> np.ndarray:
    return np.array([counts[group].sum() for group in groups])


def _psi(q: np.ndarray, p: np.ndarray) -> float:
    """Of counts; half an observation more in each, so that an empty bucket has a logarithm."""
    q, p = q + _SMOOTHING, p + _SMOOTHING
    q, p = q / q.sum(), p / p.sum()
    return float(((p - q) * np.log(p / q)).sum())


def _threshold(groups: int, n: float, m: float) -> float:
    return float(special.chdtri(max(1, groups - 1), 1 - SHOWN_QUANTILE) * (1 / n + 1 / m))


def _p_value(q: np.ndarray, p: np.ndarray, rare_q: float, rare_p: float, has_rare: bool) -> float:
    """Two tests where there are rare buckets: how many fell into them, and how the others are divided."""
    tests = [_p_divided(q, p)] if len(q) > 1 and p.sum() else []
    if has_rare:
        tests.append(_p_rare(rare_q, rare_p, q.sum() + rare_q, p.sum() + rare_p))
    return min(1.0, len(tests) * min(tests)) if tests else 1.0


def _p_divided(q: np.ndarray, p: np.ndarray) -> float:
    n, m, freedom = p.sum(), q.sum(), len(q) - 1
    shift = n / m * special.chdtri(freedom, REFERENCE_RISK)
    return max(0.0, float(1 - special.chndtr(n * _psi(q, p), freedom, shift)))


def _p_rare(rare_q: float, rare_p: float, m: float, n: float) -> float:
    """Exact: binomial, with the largest share that the reference can have (Clopper & Pearson)."""
    if rare_p == 0:
        return 1.0
    share = 1.0 if rare_q >= m else float(special.betaincinv(rare_q + 1, m - rare_q, 1 - REFERENCE_RISK))
    return float(special.bdtrc(rare_p - 1, int(n), share))


def _largest(labels: Sequence[str], q: np.ndarray, p: np.ndarray) -> list[BucketShare]:
    order = np.argsort(-np.abs(p - q), kind="stable")[:_LARGEST]
    return [
        BucketShare(bucket=labels[i], reference=round(float(q[i]), 4), window=round(float(p[i]), 4))
        for i in order if p[i] != q[i]
    ]
