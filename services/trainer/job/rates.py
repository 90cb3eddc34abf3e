"""Which learning rate a range test speaks for: from the losses of steps whose rate rises. Pure.

Smith, arXiv 1506.01186, section 3.3, with rates that rise by a constant factor and the choice where the loss falls
fastest, as fastai's `lr_find` has both (its suggestion `steep`). Here a loss belongs to the rate of the step before,
whose weights it measures, and is smoothed by a centred mean, which has no lag that would favour higher rates.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict

DECADES = 2
"""Orders of magnitude on each side of the advised rate: rates of practice differ by less for one method."""
RADIUS = 3
"""Steps on each side that a smoothed loss is the mean of: 7 of 50 steps are half of a decade."""
BLOWN_UP = 4.0
"""Times the lowest smoothed loss: from there on nothing is learned from a sweep. fastai's bound, too."""
LEAST_FALL = 0.02
"""Of the first loss: what falls by less has not fallen."""
_NORMAL = 1.4826
"""From the median absolute deviation to the standard deviation of a normal distribution."""
_DEVIATIONS = 2.5
"""Of single losses. Of 2000 sweeps of 50 steps with mere noise 14 fell by more."""


class Sweep(BaseModel):
    """A range test and what came of it.

    Attributes:
        rates: of the steps, ascending.
        losses: after each of them, in the objective's unit; fewer than the test wanted where it blew up.
        smoothed: the same, smoothed.
        rate: the learning rate to train with.
        found: whether the losses spoke for it; else it is the advised one.
        why: for people.
    """

    model_config = ConfigDict(frozen=True)

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    rate: float
    found: bool
    why: str

    def curves(self) -> Iterator[tuple[int, str, float]]:
        """Step, name and value of all that trackers draw."""
        for step, point in enumerate(zip(self.rates, self.losses, self.smoothed, strict=True), 1):
            for name, value in zip(("learning_rate", "loss", "smoothed_loss"), point, strict=True):
                yield step, name, value


def rates_around(advised: float, steps: int) -> list[float]:
    """Rates of a sweep, ascending by a constant factor, with `advised` in the middle of their logarithms; at most 1."""
    lowest, highest = advised / 10**DECADES, min(1.0, advised * 10**DECADES)
    return [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]


def smoothed(losses: Sequence[float]) -> list[float]:
    """The mean of each loss and of up to `RADIUS` on each side, as many on one as on the other."""
    found = []
    for place in range(len(losses)):
        reach = min(RADIUS, place, len(losses) - 1 - place)
        found.append(sum(losses[place - reach : place + reach + 1]) / (2 * reach + 1))
    return found


def blown_up(losses: Sequence[float]) -> bool:
    """Whether a sweep with these losses so far need not go on."""
    if losses and not math.isfinite(losses[-1]):
        return True
    window = 2 * RADIUS + 1
    if len(losses) < 2 * window:
        return False
    means = [sum(losses[end - window : end]) / window for end in range(window, len(losses) + 1)]
    return means[-1] > max(BLOWN_UP * min(means), means[0])


def choose(rates: Sequence[float], losses: Sequence[float], advised: float) -> Sweep:
    """The rate at which the smoothed loss falls fastest, or the advised one where it does not fall.

    Args:
        rates: of the sweep's steps, ascending by a constant factor.
        losses: before the first step, and after each of them as far as the sweep went.
        advised: what to fall back on.
    """
    after = [loss for loss in losses[1:] if math.isfinite(loss)]
    tried, curve = list(rates[: len(after)]), smoothed(after)

    def swept(rate: float, why: str, *, found: bool = False) -> Sweep:
        return Sweep(rates=tried, losses=after, smoothed=curve, rate=rate, found=found, why=why)

    # Where a slope has whole windows on both sides.
    inner = range(2 * RADIUS, len(curve) - 2 * RADIUS)
    if not inner:
        return swept(advised, f"the advised one: in a range test the loss of {losses[0]:.4g} blew up after "
                              f"{len(after)} steps, at {rates[len(after)]:.2g}")
    first, lowest = median(losses[: inner.start + 1]), min(inner, key=curve.__getitem__)
    noise = _NORMAL * median(abs(loss - mean) for loss, mean in zip(after, curve, strict=True))
    if first - curve[lowest] < max(_DEVIATIONS * noise, LEAST_FALL * abs(first)):
        return swept(advised, f"the advised one: in a range test from {tried[0]:.2g} to {tried[-1]:.2g} the loss of "
                              f"{first:.4g} did not fall by more than its noise of {noise:.2g}")
    steepest = min(range(inner.start, lowest + 1), key=lambda at: curve[at + RADIUS] - curve[at - RADIUS])
    return swept(float(f"{tried[steepest]:.2g}"), (
        f"in a range test of {len(losses)} steps the loss fell fastest there, from {first:.4g} to {curve[lowest]:.4g} "
        f"at {tried[lowest]:.2g}; {advised:g} is advised"
    ), found=True)
