"""Paired comparisons: of pairs of answers, which one a judge prefers. A sign test that may be watched. Pure.

If the candidate is at least as good, it wins each pair that is not a tie with probability 1/2 or more. The evidence
against that is the binomial likelihood ratio, averaged over win rates below 1/2 (uniformly):

    E = 2 B_(1/2)(w + 1, l + 1) 2^(w + l)        w, l: wins and losses; B_x the incomplete beta function

It expects at most one while the null hypothesis holds, however often one looks.
"""

import math

from pydantic import BaseModel, ConfigDict, Field
from scipy.special import betainc, betaln

from services.rollout.analysis.proportions import share_interval
from services.rollout.analysis.values import Counts, Interval, e_value


class Signs(BaseModel):
    """Wins, losses and ties of the candidate; ties say nothing and are only counted."""

    model_config = ConfigDict(frozen=True)

    wins: int = Field(default=0, ge=0)
    losses: int = Field(default=0, ge=0)
    ties: int = Field(default=0, ge=0)

    def __add__(self, other: "Signs") -> "Signs":
        return Signs(wins=self.wins + other.wins, losses=self.losses + other.losses, ties=self.ties + other.ties)

    @property
    def e_worse(self) -> float:
        """Evidence that the candidate is the worse one; 1 at the start. Null: it wins at least half of the pairs."""
        return e_value(log_worse(self.wins, self.losses))

    @property
    def e_better(self) -> float:
        """Evidence that the candidate is the better one; 1 at the start. Null: it wins at most half of the pairs."""
        return e_value(log_worse(self.losses, self.wins))

    def win_rate(self, alpha: float) -> Interval:
        """The share of wins among wins and losses, at all times with probability 1 - `alpha`."""
        return share_interval(Counts(bad=self.wins, total=self.wins + self.losses), alpha)


def log_worse(wins: int, losses: int) -> float:
    """Log of E for wins against losses."""
    below = float(betainc(wins + 1, losses + 1, 0.5))
    if below == 0.0:  # so many more wins that there is no evidence left to speak of
        return -math.inf
    return math.log(2.0 * below) + float(betaln(wins + 1, losses + 1)) + (wins + losses) * math.log(2.0)
