"""How much bad requests cling to units, for what is said by requests as if each were independent. Pure."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from services.rollout.analysis.values import Counts, Floats

# What is assumed of clumps while hardly any bad unit was seen: as if so many had been, each with as many bad requests
# as units have requests, up to the last number.
_CLUMPS_ASSUMED, _CLUMP_ASSUMED_MOST = 3.0, 3.0
# Still a number whose half and logarithm are numbers, and no interval that anything decides.
_LEAST = 1e-300


def clumping(stable: npt.ArrayLike, candidate: npt.ArrayLike, bad_units: npt.ArrayLike, units: npt.ArrayLike) -> Floats:
    """By how much the evidence from requests is too strong, because bad ones come in clumps; at least 1.

    If bad requests fell on units independently, B of them would reach N (1 - exp(-B/N)) of N units. If they reached c
    times fewer, they come in clumps of about c. The variance of a count that comes in clumps of random (geometric) size
    with mean c is 2c - 1 times as large, and so the evidence is discounted (as Rao & Scott, 1981, do with surveys).

    Args:
        stable, candidate: ``[..., 2]`` bad and total requests so far.
        bad_units: ``[..., 2]`` units of stable and of the candidate that met a bad one.
        units: ``[..., 2]`` units that were served.
    """
    s, c, bad, n = (np.asarray(values, dtype=np.float64) for values in (stable, candidate, bad_units, units))
    requests = np.stack([s[..., 0], c[..., 0]], axis=-1)
    reach = (n * -np.expm1(-requests / np.maximum(n, 1.0))).sum(axis=-1)
    each = (s[..., 1] + c[..., 1]) / np.maximum(n.sum(axis=-1), 1.0)
    assumed = _CLUMPS_ASSUMED * np.clip(each, 1.0, _CLUMP_ASSUMED_MOST)
    discount: Floats = 2.0 * np.maximum((reach + assumed) / (bad.sum(axis=-1) + _CLUMPS_ASSUMED), 1.0) - 1.0
    return discount


class UnitLook(BaseModel):
    """One look at the units: users, sessions, or requests that name none. Each counts once, whichever gateways it met.

    Attributes:
        stable, candidate: for each of `UNIT_TIMES`, units that met their so-manieth bad event in this look with that
            version, whichever versions they met the others with.
        stable_seen, candidate_seen: distinct units that the version has served since the split was drawn.
    """

    model_config = ConfigDict(frozen=True)

    stable: tuple[int, ...]
    candidate: tuple[int, ...]
    stable_seen: int
    candidate_seen: int


class Tally(BaseModel):
    """Requests and units so far. Immutable.

    Attributes:
        stable: bad requests over all, of stable.
        candidate: the same of the candidate.
        stable_units: units with a bad request, over units served.
        candidate_units: the same of the candidate.
    """

    model_config = ConfigDict(frozen=True)

    stable: Counts = Counts()
    candidate: Counts = Counts()
    stable_units: Counts = Counts()
    candidate_units: Counts = Counts()

    def with_units(self, units: UnitLook) -> dict[str, Any]:
        """The fields that one more look at the units changes."""
        return {
            "stable_units": _of_units(self.stable_units, units.stable[0], units.stable_seen),
            "candidate_units": _of_units(self.candidate_units, units.candidate[0], units.candidate_seen),
        }

    @property
    def clumped(self) -> float:
        """`clumping` of these counts."""
        return float(clumping(
            (self.stable.bad, self.stable.total), (self.candidate.bad, self.candidate.total),
            (self.stable_units.bad, self.candidate_units.bad), (self.stable_units.total, self.candidate_units.total),
        ))


class Clumps(Tally):
    """Of all of a rollout's traffic, for intervals. JSON loses nothing."""

    model_config = ConfigDict(extra="forbid")

    def updated(self, stable: Counts, candidate: Counts, units: UnitLook | None) -> Self:
        """After one more look; what its units are may be known only later."""
        return self.model_copy(update={
            "stable": self.stable + stable, "candidate": self.candidate + candidate,
            **({} if units is None else self.with_units(units)),
        })

    def level(self, alpha: float) -> float:
        """For an interval by requests that shall miss with a chance of `alpha`.

        The logarithm of the evidence against a value is divided by `clumping`, c: it excludes the value at 1/alpha^c.
        As with guardrails' safety, that is a correction and no proof. It is `alpha` where no bad unit is known: nobody
        counts them, then.
        """
        known = self.stable_units.bad + self.candidate_units.bad > 0
        return max(alpha ** self.clumped, _LEAST) if known else alpha


def _of_units(before: Counts, bad: int, seen: int) -> Counts:
    """Whoever met something bad was served, even where the gateway could not tell of that."""
    return Counts(bad=before.bad + bad, total=max(before.total, before.bad + bad, seen))
