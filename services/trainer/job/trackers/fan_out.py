# ruff: noqa: ARG002 - the signatures are the trainer's
"""Tells all trackers of a run what its trainer logs, none of which may hold it up or fail it."""

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.files import JobInput
from services.trainer.job.rates import Sweep
from services.trainer.job.trackers.model import End, Subject, Tracker
from services.trainer.job.trackers.tensorboard import TensorBoard
from shared.s3 import ArtifactStore
from shared.telemetry import get_logger

log = get_logger(__name__)

END_SECONDS = 20.0
"""How long the end of a run waits for trackers that have not taken everything yet."""
_MOST_WAITING = 10_000


class Trackers(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """A context manager for the time of an attempt, and the trainer's callback in it.

    Args:
        stop: set when the attempt was asked to end before its time.
    """

    def __init__(self, subject: Subject, trackers: Sequence[Tracker], stop: threading.Event) -> None:
        self._subject, self._stop = subject, stop
        self._sweep: Sweep | None = None
        self._mailboxes = [_Mailbox(tracker) for tracker in trackers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        how: End = "failed" if kind is not None else "stopped" if self._stop.is_set() else "finished"
        for mailbox in self._mailboxes:
            mailbox.close(how)

    def show(self, sweep: Sweep) -> None:
        """Tell of the range test before the training, once that begins."""
        self._sweep = sweep

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step
        self._each(lambda tracker: tracker.begin(self._subject, step))
        if self._sweep is not None:
            sweep = self._sweep
            self._each(lambda tracker: tracker.sweep(sweep))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logged, step = kwargs.get("logs") or {}, state.global_step
        values = {key: float(value) for key, value in logged.items() if isinstance(value, int | float)}
        self._each(lambda tracker: tracker.log(values, step))

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for mailbox in self._mailboxes:
            mailbox.put(action)


class _Mailbox:
    """Calls one tracker from a thread of its own, in order, until it raises once."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._waiting: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(_MOST_WAITING)
        self._broken = False
        self._thread = threading.Thread(target=self._work, name=f"tracker-{tracker.name}", daemon=True)
        self._thread.start()

    def put(self, action: Callable[[Tracker], None]) -> None:
        try:
            self._waiting.put_nowait(action)
        except queue.Full:
            self._give_up("it is too slow")

    def close(self, how: End) -> None:
        self.put(lambda tracker: tracker.end(how))
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            self._give_up(f"it did not take everything within {END_SECONDS:g} s of the run's end")

    def _work(self) -> None:
        while (action := self._waiting.get()) is not None:
            if self._broken:
                continue
            try:
                action(self._tracker)
            except Exception as error:  # noqa: BLE001 - a tracker that fails must not fail the run
                self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, why: str) -> None:
        if not self._broken:
            log.warning("a tracker is left out for the rest of the run", tracker=self._tracker.name, reason=why)
        self._broken = True


def trackers_of(
    job: JobInput, store: ArtifactStore, scratch: Path, stop: threading.Event, *, leads: bool
) -> Trackers:
    """Those of a job; of several processes the first alone has any."""
    found: list[Tracker] = [TensorBoard(store, job.prefix, scratch / "tensorboard")] if leads else []
    if leads and "mlflow" in job.trackers:
        from services.trainer.job.trackers.mlflow import Mlflow

        found.append(Mlflow())
    if leads and "wandb" in job.trackers:
        from services.trainer.job.trackers.wandb import Wandb

        found.append(Wandb(scratch / "wandb"))
    return Trackers(Subject.of(job), found, stop)
