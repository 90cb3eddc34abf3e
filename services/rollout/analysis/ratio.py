"""Likelihood ratios of one look, for two versions and for one rate against a bound; __init__.py says why. Pure."""

import math

import numpy as np
import numpy.typing as npt

from services.rollout.analysis.values import Floats


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
