"""E-values of 2x2 tables: bad and good events of two versions in one look. Pure.

By Turner, Ly & Grünwald, arXiv 2106.02693.

A test on bad events alone leaves out that the good ones are scarcer, too. Where bad events are common that costs power.
Here is a full table's likelihood under one alternative (a, b) (rates of candidate and stable), over that under the
closest point of the null hypothesis ``candidate >= (or <=) null * stable``:

    (a/a0)^x ((1-a)/(1-a0))^(m-x)  (b/b0)^y ((1-b)/(1-b0))^(n-y)        x of m bad: candidate; y of n: stable

(a0, b0) minimises the Kullback-Leibler divergence on the line a0 = null b0. The expectation's logarithm is concave
along that line, with its maximum, 0, at (a0, b0), and away from the line it only falls. So the factor expects at most
one under all of the null hypothesis, for any (a, b) that was chosen before the look.
"""

import numpy as np
import numpy.typing as npt

from services.rollout.analysis.values import Floats


def table_steps(
    stable: npt.ArrayLike, candidate: npt.ArrayLike, base: npt.ArrayLike, ratios: Floats, null: float
) -> Floats:
    """Log e-values of one look for each alternative.

    Args:
        stable: ``[..., 2]`` bad events and total of the stable version in this look.
        candidate: the same of the candidate.
        base: ``[...]`` the rate expected of stable, from what was seen before this look; in (0, 1).
        ratios: the alternatives as ratios of odds (of rates they could exceed 1), ``[grid]``.
        null: the ratio of rates at the null hypothesis' boundary.

    Returns:
        ``[..., grid]``; zeros where one side saw no traffic.
    """
    s, c = (np.asarray(counts, dtype=np.float64)[..., None] for counts in (stable, candidate))
    (y, n), (x, m) = (s[..., 0, :], s[..., 1, :]), (c[..., 0, :], c[..., 1, :])
    b = np.asarray(base, dtype=np.float64)[..., None]
    a = b * ratios / (1.0 - b + b * ratios)
    comparable = (n > 0) & (m > 0)
    b0 = _closest(a, b, np.where(comparable, m, 1.0), np.where(comparable, n, 1.0), null)
    a0 = null * b0
    steps: Floats = (
        x * np.log(a / a0) + (m - x) * np.log((1.0 - a) / (1.0 - a0))
        + y * np.log(b / b0) + (n - y) * np.log((1.0 - b) / (1.0 - b0))
    )
    return np.where(comparable, steps, 0.0)


def _closest(a: Floats, b: Floats, m: Floats, n: Floats, null: float) -> Floats:
    """The b0 at which ``m KL(a, null b0) + n KL(b, b0)`` is least: the smaller root of a quadratic."""
    square = (m + n) * null
    linear = m * (a + null) + n * (1.0 + null * b)
    constant = m * a + n * b
    root: Floats = 2.0 * constant / (linear + np.sqrt(np.maximum(linear * linear - 4.0 * square * constant, 0.0)))
    return root
