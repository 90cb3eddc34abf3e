"""Runs in Weights & Biases: a project for each pipeline, a run for each run, whatever its attempts.

Its own variables say where it is and who asks: ``WANDB_API_KEY``, ``WANDB_ENTITY``, ``WANDB_BASE_URL``, ``WANDB_MODE``.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from services.trainer.job.rates import Sweep
from services.trainer.job.trackers.model import End, Subject


class Wandb:
    """Through the package wandb, whose files go to `folder`."""

    name = "wandb"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run: Any = None

    def begin(self, subject: Subject, step: int) -> None:  # noqa: ARG002
        """Go on with the run of an earlier attempt, or make one."""
        wandb = import_module("wandb")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=subject.pipeline, id=subject.run_id, name=subject.run_id, resume="allow", dir=str(self._folder),
            config={**subject.parameters, "attempt": subject.attempt}, settings=wandb.Settings(silent=True),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """The step's values."""
        self._run.log(dict(values), step=step)

    def sweep(self, sweep: Sweep) -> None:
        """In the run's summary: steps of a run must rise, and its own begin at 1."""
        self._run.summary.update({"range_test": sweep.model_dump()})

    def end(self, how: End) -> None:
        """End the run, as failed or not."""
        self._run.finish(exit_code=0 if how == "finished" else 1)
