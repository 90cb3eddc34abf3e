"""What a recipe's `forgetting` does to each step of a trainer: penalties, and layers that wait."""

from pathlib import Path
from typing import Any

import torch

from services.trainer.job.anchor import Anchor
from services.trainer.job.earlier import answers_in
from services.trainer.job.fisher import diagonal_fisher, relative
from services.trainer.job.team import Team
from services.trainer.job.unfreezing import Schedule, frozen
from shared.prompts import Tokenizer
from shared.recipe import TrainingRecipe
from shared.telemetry import get_logger

log = get_logger(__name__)


class Restrained:
    """For trainers: steps are held near the start, and taken by the layers that have joined. `restrain` says how."""

    model: Any
    args: Any
    state: Any
    accelerator: Any
    anchor: Anchor | None = None
    schedule: Schedule | None = None
    penalty: torch.Tensor | None = None

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        waiting = self.schedule.waiting(self.state.global_step) if self.schedule else []
        with frozen(waiting, skip_backward=self.args.world_size == 1):
            loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        # Gradients of all batches and processes are in place, and not yet cut to their greatest norm.
        if self.anchor is not None and self.accelerator.sync_gradients:
            self.penalty = self.anchor.pull(self.model)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if self.penalty is not None and "loss" in logs:
            logs["penalty"] = float(self.penalty)
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


def restrain(
    trainer: Any, recipe: TrainingRecipe, tokenizer: Tokenizer, *, started: bool, earlier: Path | None, team: Team
) -> None:
    """Apply the recipe's `forgetting` to a trainer whose model stands at its start.

    Args:
        started: the model goes on from an adapter. A new one knows nothing worth keeping, and is not held.
        earlier: the folder of the earlier task's dataset version; None where there is none yet.
    """
    chosen, model = recipe.forgetting, trainer.model
    if chosen.gradual_unfreezing is not None:
        trainer.schedule = Schedule(model, chosen.gradual_unfreezing)
    if not chosen.penalises:
        return
    if not started and recipe.method != "full":
        log.warning("nothing is in production yet, so that there is nothing to keep: no weight is held")
        return
    importance = None
    if chosen.ewc is not None and earlier is not None:
        rows = answers_in(earlier, tokenizer, recipe, chosen.ewc.rows)
        importance = relative(
            diagonal_fisher(model, rows, share=slice(team.rank, None, team.size), total=team.total)
        )
    trainer.anchor = Anchor(
        model, l2=chosen.l2.strength if chosen.l2 else 0.0, ewc=chosen.ewc.strength if chosen.ewc else 0.0,
        importance=importance,
    )


def metrics(trainer: Any) -> dict[str, float]:
    """What is told of a finished run: the last penalty, and which share of the weights has joined."""
    told = {} if trainer.penalty is None else {"penalty": float(trainer.penalty)}
    if trainer.schedule is not None:
        told["trained_share"] = trainer.schedule.trained_share(trainer.state.global_step)
        if told["trained_share"] < 1:
            log.warning("the run ended before all layers had joined; lower "
                        "training.forgetting.gradualUnfreezing.stepsPerStage, or train longer",
                        trained_share=told["trained_share"])
    return told
