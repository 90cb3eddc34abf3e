"""The sequential sample-ratio test: do the versions get the shares of units that they are meant to get? Pure.

If not, whatever is compared may differ because of who was sent where, and nothing may be concluded. Each unit is
counted once, with the version that it met first; by the split it is version i's with probability w_i, independently
of all else. A gambler bets on another distribution v, chosen before the look from what was seen before it:

    E <- E prod_i (v_i / w_i)^n_i        n_i: units of this look; the product expects 1 for any v

so that E reaches 1/a with probability at most a while the split is as intended, whatever the weights do in between (the
multinomial test of Lindon & Malek, NeurIPS 2022, with a plug-in instead of a Dirichlet mixture).
"""

from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from services.rollout.analysis.values import Floats, e_value

# The chance that a split that is as intended is ever called invalid.
LEVEL = 0.001
# The bet begins as if so many units had fallen just as intended.
_CAUTION = 20.0


def split_step(units: npt.ArrayLike, weights: npt.ArrayLike, seen: npt.ArrayLike, expected: npt.ArrayLike) -> Floats:
    """What one look adds to log E.

    Args:
        units: ``[..., arms]`` new units in this look.
        weights: ``[..., arms]`` intended shares, which sum to 1; an arm without weight must have no units.
        seen: units before this look.
        expected: how many there should have been before this look.
    """
    n, w, s, e = (np.asarray(values, dtype=np.float64) for values in (units, weights, seen, expected))
    bet = w * (s + _CAUTION * w) / np.maximum(e + _CAUTION * w, 1e-12)
    total = bet.sum(axis=-1, keepdims=True)
    share = np.where((w > 0) & (total > 0), bet / np.maximum(total, 1e-300) / np.maximum(w, 1e-300), 1.0)
    step: Floats = (n * np.log(share)).sum(axis=-1)
    return step


class SampleRatio(BaseModel):
    """The units of each version so far, beside how many were meant. Immutable; JSON loses nothing.

    Attributes:
        seen: units by version.
        expected: what the weights at the time of each look make of the same total.
        log: log of E.
    """

    model_config = ConfigDict(frozen=True)

    seen: dict[str, float] = {}
    expected: dict[str, float] = {}
    log: float = 0.0

    def updated(self, units: dict[str, int], weights: dict[str, float]) -> Self:
        """After one more look; versions without weight are left out, because the split never meant them."""
        arms = sorted(arm for arm, weight in weights.items() if weight > 0)
        n = np.array([float(units.get(arm, 0)) for arm in arms])
        w = np.array([weights[arm] for arm in arms])
        w = w / w.sum()
        seen, expected = (np.array([of.get(arm, 0.0) for arm in arms]) for of in (self.seen, self.expected))
        return self.model_copy(update={
            "seen": {**self.seen, **dict(zip(arms, (seen + n).tolist(), strict=True))},
            "expected": {**self.expected, **dict(zip(arms, (expected + w * n.sum()).tolist(), strict=True))},
            "log": self.log + float(split_step(n, w, seen, expected)),
        })

    @property
    def e_mismatch(self) -> float:
        """Evidence that the split is not as intended; 1 at the start."""
        return e_value(self.log)

    @property
    def mismatched(self) -> bool:
        """Whether it is proved at `LEVEL`."""
        return self.e_mismatch >= 1.0 / LEVEL

    @property
    def words(self) -> str:
        """The numbers, for people: ``m@2 had 40 units where 100 were meant``."""
        return ", ".join(f"{arm} had {self.seen[arm]:.0f} units where {self.expected[arm]:.0f} were meant"
                         for arm in sorted(self.seen))
