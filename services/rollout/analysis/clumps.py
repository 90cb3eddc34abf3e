"""How much what is compared by requests clings to units, for intervals that take each request for independent. Pure."""

from typing import Self

from pydantic import BaseModel, ConfigDict

from services.rollout.analysis.evidence import UnitLook, clumping_of, of_units
from services.rollout.analysis.values import Counts


class Clumps(BaseModel):
    """Requests and units over all of a rollout's traffic. Immutable; JSON loses nothing.

    Attributes:
        stable: bad requests over all, of stable.
        candidate: the same of the candidate.
        stable_units: units with a bad request, over units served.
        candidate_units: the same of the candidate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stable: Counts = Counts()
    candidate: Counts = Counts()
    stable_units: Counts = Counts()
    candidate_units: Counts = Counts()

    def updated(self, stable: Counts, candidate: Counts, units: UnitLook | None) -> Self:
        """After one more look; what its units are may be known only later."""
        return self.model_copy(update={
            "stable": self.stable + stable, "candidate": self.candidate + candidate,
            **({} if units is None else {
                "stable_units": of_units(self.stable_units, units.stable[0], units.stable_seen),
                "candidate_units": of_units(self.candidate_units, units.candidate[0], units.candidate_seen),
            }),
        })

    def level(self, alpha: float) -> float:
        """For an interval by requests that shall miss with a chance of `alpha`.

        The logarithm of the evidence against a value is divided by `clumping`, c: it excludes the value at 1/alpha^c.
        As with guardrails' safety, that is a correction and no proof. It is `alpha` where no bad unit is known: nobody
        counts them, then.
        """
        known = self.stable_units.bad + self.candidate_units.bad > 0
        return max(alpha ** clumping_of(self), _LEAST) if known else alpha


# Still a number whose half and logarithm are numbers, and no interval that anything decides.
_LEAST = 1e-300
