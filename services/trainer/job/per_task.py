"""The validation loss of each task beside that of all."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers.trainer_utils import EvalLoopOutput

from shared.prompts import IGNORED_LABEL


class ValidatesTasks:
    """For TRL's supervised trainer: where there are tasks, each one's validation rows are measured by themselves.

    ``eval_loss/NAME`` is a task's own loss. That of all is the mean over their trained tokens, as it is without tasks.
    """

    _tasks: Mapping[str, Dataset] = {}
    _tokens: Mapping[str, int] = {}

    def validate_by(self, tasks: Mapping[str, Dataset]) -> None:
        """Measure these validation rows, by the names of their tasks."""
        self._tasks = tasks
        self._tokens = {
            task: sum(label != IGNORED_LABEL for row in rows for label in row["labels"][1:])
            for task, rows in tasks.items()
        }

    def evaluation_loop(self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        loop = super().evaluation_loop  # type: ignore[misc]
        if not self._tasks:
            return loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        key = f"{metric_key_prefix}_loss"
        metrics: dict[str, float] = {}
        for task, rows in self._tasks.items():
            own = self.get_eval_dataloader(rows)  # type: ignore[attr-defined]
            metrics[f"{key}/{task}"] = loop(own, *args, metric_key_prefix=metric_key_prefix, **kwargs).metrics[key]
        nats = sum(metrics[f"{key}/{task}"] * count for task, count in self._tokens.items())
        metrics[key] = nats / sum(self._tokens.values())
        count = sum(len(rows) for rows in self._tasks.values())
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=count)
