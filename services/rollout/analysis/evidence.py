"""What a guardrail has shown so far: the tests of this package, mixed and accumulated. Pure.

The functions take arrays, whole histories of many rollouts if need be; `Evidence` is one rollout's, look by look.
"""

import math
from functools import lru_cache
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from services.rollout.analysis.clumps import Tally, UnitLook
from services.rollout.analysis.ratio import interval_steps, rate_steps, ratio_steps, split_steps
from services.rollout.analysis.tables import table_steps
from services.rollout.analysis.values import Bounds, Counts, Floats, e_value, log_mixture
from shared.gateway_metrics import UNIT_TIMES

# What harm is proved by: units that met a bad event, bad requests, the share of them within each look, or units for
# which only one of two answers to the same request was bad.
CountedBy = Literal["unit", "request", "interval", "pair"]

# Alternatives for harm, as candidate's rate over stable's, and how much of the evidence is staked on each. A threefold
# rate is what a canary of two hours can just find, so most is staked on it; benchmarks/calibration measures how often.
HARM_RATIOS: tuple[float, ...] = (1.5, 3.0, 10.0, 30.0)
HARM_WEIGHTS: tuple[float, ...] = (0.05, 0.78, 0.13, 0.04)
# Alternatives for safety, as shares of the bound that is tested. The lowest is what a faultless candidate climbs on.
SAFE_SHARES: tuple[float, ...] = (0.02, 0.15, 0.4, 0.7)
SAFE_WEIGHTS: tuple[float, ...] = (0.55, 0.2, 0.15, 0.1)
# Where stable was worse than this before a look, over so many events, good events are counted too.
TABLE_RATE, TABLE_EVENTS = 0.1, 100
# Units are counted when they meet their first bad event, their fourth and their sixteenth: where bad events are common,
# nearly all have soon met one, but those of a worse version reach the others earlier. Each counting is an e-process,
# but not with the others' history in view, so they share alpha (a union bound) instead of being averaged.
UNIT_SHARES: tuple[float, ...] = (0.9, 0.06, 0.04)
_HARM, _HARM_PRIOR = np.array(HARM_RATIOS), np.log(np.array(HARM_WEIGHTS))
_SAFE, _SAFE_PRIOR = np.array(SAFE_SHARES), np.log(np.array(SAFE_WEIGHTS))
_NO_HARM = (0.0,) * len(HARM_RATIOS)
_UNIT_SHARES = np.log(np.array(UNIT_SHARES))


def compared(
    stable: npt.ArrayLike, candidate: npt.ArrayLike, past: npt.ArrayLike, ratios: Floats, null: float
) -> Floats:
    """One look's comparison of two versions: by bad events, or by the whole table where `past` had many.

    Args:
        stable, candidate: ``[..., 2]`` bad events and total in this look.
        past: ``[..., 2]`` stable's before this look. The choice may depend on nothing else, or it would be a peek.
    """
    p = np.asarray(past, dtype=np.float64)
    base = (p[..., 0] + 1.0) / (p[..., 1] + 2.0)
    common = (p[..., 1] >= TABLE_EVENTS) & (base > TABLE_RATE)
    by_events = ratio_steps(stable, candidate, ratios, null)
    if not common.any():
        return by_events
    return np.where(common[..., None], table_steps(stable, candidate, base, ratios, null), by_events)


def harm_steps(stable: npt.ArrayLike, candidate: npt.ArrayLike, past: npt.ArrayLike) -> Floats:
    """One look's contribution to the harm test by requests: every ratio of `HARM_RATIOS` against 1."""
    return compared(stable, candidate, past, _HARM, 1.0)


def harm_unit_steps(stable: npt.ArrayLike, candidate: npt.ArrayLike, odds: npt.ArrayLike) -> Floats:
    """The same by units that met a bad event, ``[..., times]``, which fall to the candidate with `odds`, ``[...]``.

    Returns:
        ``[..., times, grid]``.
    """
    return split_steps(stable, candidate, np.asarray(odds)[..., None], _HARM, 1.0)


def harm_interval_steps(stable: npt.ArrayLike, candidate: npt.ArrayLike, odds: npt.ArrayLike) -> Floats:
    """The same by the candidate's share of the look's bad events, ``[...]``."""
    return interval_steps(stable, candidate, odds, _HARM, 1.0)


def harm_pair_steps(stable: npt.ArrayLike, candidate: npt.ArrayLike) -> Floats:
    """The same by pairs of answers of which only one was bad, stable's or the candidate's, ``[...]``: a sign test.

    While the candidate is bad at most as often as stable, the bad one of such a pair is the candidate's with a
    probability of at most 1/2 (McNemar, 1947), so the gambler bets on a coin at even odds: that it shows the candidate
    ``rho`` times as often as stable, for every `rho` of `HARM_RATIOS` (Waudby-Smith & Ramdas, 2024, for a Bernoulli).
    """
    return split_steps(stable, candidate, np.ones(np.shape(stable)), _HARM, 1.0)


def safe_steps(
    stable: npt.ArrayLike, candidate: npt.ArrayLike, past: npt.ArrayLike, bounds: Bounds
) -> tuple[Floats, Floats]:
    """One look's contribution to the two safety tests: against the margin, and against the tolerable rate."""
    return (
        compared(stable, candidate, past, _SAFE * bounds.margin, bounds.margin),
        rate_steps(candidate, _SAFE * bounds.tolerable, bounds.tolerable),
    )


def log_harm(logs: Floats) -> Floats:
    """Log e-value for harm from accumulated steps."""
    return log_mixture(logs, _HARM_PRIOR)


def log_unit_harm(logs: Floats) -> Floats:
    """Log e-value for harm by units: the greatest of the countings, each times its share.

    Args:
        logs: accumulated `harm_unit_steps`, ``[..., times, grid]``.
    """
    most: Floats = (log_harm(logs) + _UNIT_SHARES).max(axis=-1)
    return most


def log_safe(ratio_logs: Floats, rate_logs: Floats, clumping: npt.ArrayLike = 1.0) -> Floats:
    """Log e-value for safety: the average of the two tests' e-values, discounted for clumping."""
    by = np.asarray(clumping, dtype=np.float64)[..., None]
    both = np.stack([log_mixture(ratio_logs / by, _SAFE_PRIOR), log_mixture(rate_logs / by, _SAFE_PRIOR)], axis=-1)
    return log_mixture(both, np.full(2, -math.log(2.0)))


class PairLook(BaseModel):
    """One look at units who were answered by both versions, and for the first time differently.

    Attributes:
        stable, candidate: how many of whom that version's answer was the bad one.
    """

    model_config = ConfigDict(frozen=True)

    stable: int = 0
    candidate: int = 0

    def __add__(self, other: "PairLook") -> "PairLook":
        return PairLook(stable=self.stable + other.stable, candidate=self.candidate + other.candidate)


class Evidence(Tally):
    """What one guardrail has shown so far. Immutable; `updated` gives the next value; JSON loses nothing.

    Attributes:
        counted_by: what `e_harm` is proved by.
        harm: accumulated logs per alternative of the harm test by requests.
        interval: of the one by shares within looks.
        unit: of the one by units, for each of `UNIT_TIMES`.
        pair: of the one by pairs.
        pairs: units who were answered differently so far.
        ratio: of the safety test against the margin.
        rate: of the safety test against the tolerable rate.
    """

    counted_by: CountedBy = "request"
    harm: tuple[float, ...] = _NO_HARM
    interval: tuple[float, ...] = _NO_HARM
    unit: tuple[tuple[float, ...], ...] = (_NO_HARM,) * len(UNIT_TIMES)
    pair: tuple[float, ...] = _NO_HARM
    pairs: PairLook = PairLook()
    ratio: tuple[float, ...] = (0.0,) * len(SAFE_SHARES)
    rate: tuple[float, ...] = (0.0,) * len(SAFE_SHARES)

    def updated(
        self, stable: Counts, candidate: Counts, bounds: Bounds, *, odds: float = 0.0, units: UnitLook | None = None
    ) -> Self:
        """The evidence after one more look, given that look's increments.

        Args:
            odds: the candidate's intended share of the traffic over that of who it is compared with; 0 where it is not
                known, and then nothing is counted by unit or interval.
            units: what was counted of units, if it was.
        """
        s, c, past = (stable.bad, stable.total), (candidate.bad, candidate.total), (self.stable.bad, self.stable.total)
        ratio, rate = safe_steps(s, c, past, bounds)
        return self.model_copy(update={
            "stable": self.stable + stable,
            "candidate": self.candidate + candidate,
            "harm": _added(self.harm, harm_steps(s, c, past)),
            "interval": _added(self.interval, harm_interval_steps(stable.bad, candidate.bad, odds)),
            "ratio": _added(self.ratio, ratio),
            "rate": _added(self.rate, rate),
            **({} if units is None else self._with_units(units, odds)),
        })

    def paired(self, look: PairLook) -> Self:
        """The evidence after a look at pairs, by which harm is proved from then on."""
        return self.model_copy(update={
            "counted_by": "pair", "pairs": self.pairs + look,
            "pair": _added(self.pair, harm_pair_steps(look.stable, look.candidate)),
        })

    def _with_units(self, units: UnitLook, odds: float) -> dict[str, object]:
        steps = harm_unit_steps(units.stable, units.candidate, odds)
        return {
            "unit": tuple(_added(logs, step) for logs, step in zip(self.unit, steps, strict=True)),
            **self.with_units(units),
        }

    @property
    def clumping(self) -> float:
        """The discount for bad requests that come in clumps; 1 where units are not counted."""
        return _e_values(self).clumping

    @property
    def e_harm(self) -> float:
        """Evidence that the candidate's bad rate is above stable's; about 1 at the start."""
        return _e_values(self).harm

    @property
    def e_safe(self) -> float:
        """Evidence that the candidate's bad rate is below the margin or below the tolerable rate; 1 at the start."""
        return _e_values(self).safe


class _EValues(NamedTuple):
    """What `Evidence` comes to."""

    clumping: float
    harm: float
    safe: float


# A look asks for the same values many times: to judge them, to say them, to store them and to show them.
@lru_cache(maxsize=256)
def _e_values(evidence: Evidence) -> _EValues:
    discount = evidence.clumped if evidence.counted_by == "unit" else 1.0
    return _EValues(discount, e_value(_log_harm_of(evidence)),
                    e_value(float(log_safe(np.array(evidence.ratio), np.array(evidence.rate), discount))))


def _log_harm_of(evidence: Evidence) -> float:
    if evidence.counted_by == "unit":
        return float(log_unit_harm(np.array(evidence.unit)))
    logs = {"request": evidence.harm, "interval": evidence.interval, "pair": evidence.pair}[evidence.counted_by]
    return float(log_harm(np.array(logs)))


def _added(logs: tuple[float, ...], steps: Floats) -> tuple[float, ...]:
    return tuple(float(log + step) for log, step in zip(logs, steps, strict=True))
