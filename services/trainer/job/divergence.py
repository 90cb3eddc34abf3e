"""Whether a training diverges, from its losses and gradient norms. Pure.

A loss is judged by the run's own past: it has diverged when it stays above what its recent past explains and has lost
at least half of all that it had learned. One bad batch is no divergence; one value that is no number is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

WINDOW = 50
"""Steps of the recent past: enough for a stable median, few enough to follow a falling loss."""
PATIENCE = 5
"""Steps in a row above the bound. At six deviations one is a rare batch, and five are not chance."""
DEVIATIONS = 6.0
_NORMAL = 1.4826
"""From the median absolute deviation to the standard deviation of a normal distribution."""
FLOOR = 0.1
"""Nats. The bound is never nearer to the median: losses that hardly vary are not held to their noise."""
FIRST = 5
"""Losses at the beginning whose median says where the run came from."""

_NUMBERS = {"loss": "loss", "grad_norm": "gradient norm", "eval_loss": "validation loss"}

State = Literal["fine", "doubtful", "diverged"]


@dataclass(frozen=True)
class Verdict:
    """`doubtful` steps are above the bound, but not for long enough: what they leave is not to be trusted yet."""

    state: State
    reason: str = ""


def judge(history: Sequence[Mapping[str, Any]], *, uneven: bool = False) -> Verdict:
    """The verdict after the newest entry of a trainer's log.

    Args:
        history: the log, oldest first; entries with a ``loss`` are steps, those with an ``eval_loss`` validations.
        uneven: only values that are no numbers count. The loss of reinforcement learning is a surrogate that need not
            fall.
    """
    newest = history[-1] if history else {}
    for key, name in _NUMBERS.items():
        if not math.isfinite(float(newest.get(key, 0.0))):
            return Verdict("diverged", f"the {name} became {float(newest[key])}")
    if "loss" not in newest:
        return Verdict("fine")
    recent = _newest_losses(history, WINDOW + PATIENCE)
    if uneven or len(recent) < 2 * PATIENCE + FIRST:
        return Verdict("fine")
    past, tail = recent[:-PATIENCE], recent[-PATIENCE:]
    bound = bound_of(past, _first_losses(history))
    above = next((count for count, loss in enumerate(reversed(tail)) if loss <= bound), PATIENCE)
    if above == 0:
        return Verdict("fine")
    why = f"the loss is {tail[-1]:.4g}, where {bound:.4g} is the most that the {len(past)} steps before explain"
    return Verdict("diverged" if above == PATIENCE else "doubtful", why)


def judge_end(history: Sequence[Mapping[str, Any]], *, uneven: bool = False) -> Verdict:
    """The verdict on a run's last weights, once they are validated.

    Doubt in the last steps has no time to become certain, so rows that were not trained on decide: where their loss has
    risen since before the doubt, and by more than the bound allows that of training, it was no rare batch. The verdict
    stays `doubtful` where nothing was validated before the doubt.
    """
    steps = [place for place, entry in enumerate(history) if "loss" in entry]
    verdict = judge(history[: steps[-1] + 1], uneven=uneven) if steps else Verdict("fine")
    if verdict.state != "doubtful":
        return verdict
    validations = [(place, float(entry["eval_loss"])) for place, entry in enumerate(history) if "eval_loss" in entry]
    before = [loss for place, loss in validations if place < steps[-PATIENCE]]
    if not before:
        return verdict
    past, last = _newest_losses(history, WINDOW + PATIENCE)[:-PATIENCE], validations[-1][1]
    if last - before[-1] <= bound_of(past, _first_losses(history)) - median(past):
        return Verdict("fine")
    return Verdict("diverged", f"{verdict.reason}, and the validation loss rose from {before[-1]:.4g} to {last:.4g}")


def bound_of(past: Sequence[float], first: Sequence[float]) -> float:
    """The highest loss that is not divergence, in the loss's own unit.

    ``median(past) + max(6 * 1.4826 * MAD(past), (median(first) - median(past)) / 2, 0.1)``; the median and its absolute
    deviation do not move with single outliers (Leys et al., J. Exp. Soc. Psychol. 49, 2013).
    """
    middle = median(past)
    deviation = _NORMAL * median(abs(loss - middle) for loss in past)
    return middle + max(DEVIATIONS * deviation, (median(first) - middle) / 2, FLOOR)


def _newest_losses(history: Sequence[Mapping[str, Any]], count: int) -> list[float]:
    found: list[float] = []
    for entry in reversed(history):
        if len(found) == count:
            break
        if "loss" in entry:
            found.append(float(entry["loss"]))
    return found[::-1]


def _first_losses(history: Sequence[Mapping[str, Any]]) -> list[float]:
    found: list[float] = []
    for entry in history:
        if "loss" in entry:
            found.append(float(entry["loss"]))
        if len(found) == FIRST:
            break
    return found
