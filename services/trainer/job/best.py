"""The best weights so far, which early stopping ends with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from services.trainer.job.methods import put_back, trainable

FILE = "best.safetensors"


class BestAdapter:
    """The trained weights with the lowest validation loss, in memory and beside each checkpoint."""

    def __init__(self) -> None:
        self._weights: dict[str, torch.Tensor] | None = None

    def observe(self, model: Any, losses: Sequence[float]) -> None:
        """Keep the present weights if the newest validation is the best one."""
        if losses and losses[-1] <= min(losses):
            self._weights = trainable(model)

    def save(self, checkpoint: Path) -> None:
        """Put them into a checkpoint's folder, so that a resumed run can still end with them."""
        if self._weights is not None:
            save_file(self._weights, checkpoint / FILE)

    def load(self, checkpoint: Path) -> None:
        """Take them from a checkpoint's folder."""
        if (checkpoint / FILE).exists():
            self._weights = load_file(checkpoint / FILE)

    def restore(self, model: Any) -> None:
        """Make them the model's weights."""
        if self._weights is not None:
            put_back(model, self._weights)
