"""What a guardrail has shown so far: the tests of this package, mixed and accumulated. Pure."""

import math
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from services.rollout.analysis.ratio import rate_steps, ratio_steps
from services.rollout.analysis.values import Bounds, Counts, Floats, e_value, log_mixture

# Alternatives for harm, as candidate's rate over stable's. From "a quarter more" to "everything fails".
HARM_RATIOS: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
# Alternatives for safety, as shares of the bound that is tested. The lowest is what a faultless candidate climbs on.
SAFE_SHARES: tuple[float, ...] = (0.02, 0.15, 0.4, 0.7)
SAFE_WEIGHTS: tuple[float, ...] = (0.55, 0.2, 0.15, 0.1)

_HARM = np.array(HARM_RATIOS)
_SAFE = np.array(SAFE_SHARES)
_HARM_PRIOR = np.full(len(HARM_RATIOS), -math.log(len(HARM_RATIOS)))
_SAFE_PRIOR = np.log(np.array(SAFE_WEIGHTS))


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
        return e_value(float(log_harm(np.array(self.harm))))

    @property
    def e_safe(self) -> float:
        """Evidence that the candidate's bad rate is below the margin or below the tolerable rate; 1 at the start."""
        return e_value(float(log_safe(np.array(self.ratio), np.array(self.rate))))


def _added(logs: tuple[float, ...], steps: Floats) -> tuple[float, ...]:
    return tuple(float(log + step) for log, step in zip(logs, steps, strict=True))
