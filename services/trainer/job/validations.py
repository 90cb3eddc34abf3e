"""The validations in a trainer's own log, which checkpoints keep. Pure; nothing here imports torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.recipe_parts import EarlyStopping


def losses_of(history: Iterable[Mapping[str, Any]]) -> list[float]:
    """The validation losses in a trainer's log, oldest first."""
    return [float(entry["eval_loss"]) for entry in history if "eval_loss" in entry]


def is_exhausted(losses: Sequence[float], rule: EarlyStopping) -> bool:
    """Whether the last `patience` validations all failed to be better by `min_delta` than the best before them."""
    best, since = float("inf"), 0
    for loss in losses:
        if loss < best - rule.min_delta:
            best, since = loss, 0
        else:
            since += 1
    return since >= rule.patience


def is_owed(history: Iterable[Mapping[str, Any]], step: int, *, every: int, last: int) -> bool:
    """Whether the validation of a step is due, and is not in the log.

    Args:
        every: steps between two validations.
        last: the run's last step, which is validated, too.
    """
    due = step > 0 and (step % every == 0 or step == last)
    return due and not any("eval_loss" in entry and entry["step"] == step for entry in history)


def task_losses(history: list[dict[str, Any]]) -> dict[str, float]:
    """``validation_loss/NAME`` of each task, at the validation with the lowest loss of all."""
    validations = [entry for entry in history if "eval_loss" in entry]
    if not validations:
        return {}
    best = min(validations, key=lambda entry: float(entry["eval_loss"]))
    prefix = "eval_loss/"
    return {
        f"validation_loss/{name.removeprefix(prefix)}": float(loss)
        for name, loss in best.items() if name.startswith(prefix)
    }
