"""Likelihood ratios of one look, by which an e-process grows; __init__.py says why each is one. Pure.

All functions take whole histories at once: the leading dimensions are whatever the caller likes (looks, runs), the last
one of the result is the grid of alternatives. Counts are ``[..., 2]``, bad events and total.
"""

import math

import numpy as np
import numpy.typing as npt

from services.rollout.analysis.values import Floats


def ratio_steps(stable: npt.ArrayLike, candidate: npt.ArrayLike, ratios: Floats, null: float) -> Floats:
    """Log-likelihood ratios of one look for each alternative ratio against `null`, by the realised split.

    Args:
        stable: bad events and total of the stable version in this look.
        candidate: the same of the candidate.
        ratios: the alternatives, ``[grid]``.
        null: the ratio at the null hypothesis' boundary.

    Returns:
        ``[..., grid]``; zeros where one side saw no traffic, because nothing can be compared then.
    """
    s, c = np.asarray(stable, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    odds = np.where((s[..., 1] > 0) & (c[..., 1] > 0), c[..., 1] / np.where(s[..., 1] > 0, s[..., 1], 1.0), 0.0)
    return split_steps(s[..., 0], c[..., 0], odds, ratios, null)


def split_steps(
    stable: npt.ArrayLike, candidate: npt.ArrayLike, odds: npt.ArrayLike, ratios: Floats, null: float
) -> Floats:
    """The same for events that fall to the candidate with the given odds, whatever the totals are.

    Args:
        stable: events of stable, ``[...]``.
        candidate: events of the candidate.
        odds: the candidate's share over stable's share; 0 where nothing can be compared.
    """
    here, there = _logs(odds, ratios, null)
    s, c = (np.asarray(events, dtype=np.float64)[..., None] for events in (stable, candidate))
    return np.where(np.asarray(odds)[..., None] > 0, c * here + s * there, 0.0)


def interval_steps(
    stable: npt.ArrayLike, candidate: npt.ArrayLike, odds: npt.ArrayLike, ratios: Floats, null: float
) -> Floats:
    """Logs of the *average* of the events' likelihood ratios instead of their product; arguments of `split_steps`.

    However the events of one look hang together: as long as each falls to the candidate with the given odds, their
    average is expected to be at most 1.
    """
    here, there = _logs(odds, ratios, null)
    s, c = (np.asarray(events, dtype=np.float64)[..., None] for events in (stable, candidate))
    both = s + c
    usable = (np.asarray(odds)[..., None] > 0) & (both > 0)
    mean = (c * np.exp(here) + s * np.exp(there)) / np.where(usable, both, 1.0)
    steps: Floats = np.log(np.where(usable, mean, 1.0))
    return steps


def rate_steps(candidate: npt.ArrayLike, rates: Floats, null: float) -> Floats:
    """Log-likelihood ratios of one look for each alternative rate against `null`; shapes as in `ratio_steps`."""
    c = np.asarray(candidate, dtype=np.float64)
    good = c[..., 1:] - c[..., :1]
    steps: Floats = c[..., :1] * np.log(rates / null) + good * (np.log1p(-rates) - math.log1p(-null))
    return steps


def _logs(odds: npt.ArrayLike, ratios: Floats, null: float) -> tuple[Floats, Floats]:
    """What an event of the candidate, and one of stable, says: log q/q0, log (1-q)/(1-q0), q = odds r/(1+odds r)."""
    o = np.asarray(odds, dtype=np.float64)[..., None]
    spread: Floats = np.log1p(o * null) - np.log1p(o * ratios)
    return np.log(ratios / null) + spread, spread
