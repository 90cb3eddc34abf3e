"""The one thread that owns the model: it admits waiting requests, decodes the batch, loads and drops adapters."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from services.serving.engine.batch import Batch
from services.serving.engine.errors import overloaded
from services.serving.engine.generation import Generation
from services.serving.engine.metrics import RUNNING, STEP_FAILURES, WAITING
from services.serving.engine.model import Model
from shared.telemetry import get_logger

log = get_logger(__name__)


class Worker:
    """Runs generations and jobs one step after another.

    Args:
        max_batch: most rows that decode together.
        max_prefill_tokens: most prompt tokens (with padding) that are read between two tokens of running rows, so
            that a burst of prompts does not stop every stream.
        max_queue: most generations that wait.
    """

    def __init__(self, model: Model, *, max_batch: int, max_prefill_tokens: int, max_queue: int) -> None:
        self._model = model
        self._batch = Batch(model)
        self._max_batch = max_batch
        self._max_prefill_tokens = max_prefill_tokens
        self._max_queue = max_queue
        self._changed = threading.Condition()
        self._waiting: deque[Generation] = deque()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._retired: list[str] = []
        self._stopping = False

    def submit(self, generation: Generation) -> None:
        """Queue a generation; ApiError 503 where the queue is full."""
        with self._changed:
            if len(self._waiting) >= self._max_queue:
                raise overloaded(f"{self._max_queue} requests are waiting already; try again in a moment")
            self._waiting.append(generation)
            self._changed.notify()

    def cancel(self, generation: Generation) -> None:
        """Nobody waits for this one any more."""
        generation.cancelled = True
        with self._changed:
            if generation in self._waiting:
                self._waiting.remove(generation)

    def call(self, job: Callable[[], Any]) -> "Future[Any]":
        """Run `job` on the worker's thread, between two steps."""
        future: Future[Any] = Future()
        with self._changed:
            self._jobs.append((job, future))
            self._changed.notify()
        return future

    def retire(self, key: str) -> None:
        """Delete an adapter from the model once no generation uses it."""
        with self._changed:
            self._retired.append(key)
            self._changed.notify()

    def stop(self) -> None:
        """End the thread after the step under way; what was still to do fails."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Work until `stop`."""
        while self._wait():
            self._run_jobs()
            self._guarded(self._admit)
            self._guarded(self._batch.step)
            self._delete_retired()
            RUNNING.set(len(self._batch.rows))
            WAITING.set(len(self._waiting))
        self._batch.fail_all("the engine is stopping")
        for generation in self._waiting:
            generation.fail("the engine is stopping")

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or self._jobs or self._waiting or self._batch.rows or self._retired
            )
            return not self._stopping

    def _run_jobs(self) -> None:
        while self._jobs:
            job, future = self._jobs.popleft()
            try:
                future.set_result(job())
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                future.set_exception(error)

    def _admit(self) -> None:
        rows = self._take()
        if not rows:
            return
        try:
            self._batch.admit(rows)
        except Exception as error:
            for row in rows:
                if row not in self._batch.rows:
                    row.fail(f"the model failed: {error}")
            raise

    def _take(self) -> list[Generation]:
        rows: list[Generation] = []
        with self._changed:
            while self._waiting and len(self._batch.rows) + len(rows) < self._max_batch:
                widest = max(len(row.prompt) for row in [*rows, self._waiting[0]])
                if rows and widest * (len(rows) + 1) > self._max_prefill_tokens:
                    break
                rows.append(self._waiting.popleft())
        return rows

    def _guarded(self, work: Callable[[], None]) -> None:
        """A step that fails ends its requests, not the engine."""
        try:
            work()
        except Exception as error:
            STEP_FAILURES.inc()
            log.exception("a step of the model failed; its requests end with an error")
            self._batch.fail_all(f"the model failed: {error}")

    def _delete_retired(self) -> None:
        with self._changed:
            used = {row.adapter.key for row in [*self._waiting, *self._batch.rows] if row.adapter}
            ready = [key for key in self._retired if key not in used]
            self._retired = [key for key in self._retired if key in used]
        for key in ready:
            self._model.delete_adapter(key)
