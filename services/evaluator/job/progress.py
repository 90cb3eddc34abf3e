"""How far the job is, for people who wait."""

from services.evaluator.contract import PROGRESS, Progress
from shared.clock import Clock
from shared.s3 import ArtifactStore

_SECONDS_BETWEEN = 1.0


class ProgressWriter:
    """Writes ``progress.json``, at most once a second.

    Args:
        folder: S3 folder of the attempt.
        total: rows to score, counted once for each measurement.
    """

    def __init__(self, store: ArtifactStore, folder: str, *, total: int, clock: Clock) -> None:
        self._store, self._uri, self._clock = store, folder + PROGRESS, clock
        self._total, self._done, self._doing = total, 0, ""
        self._written: float | None = None

    def start(self, doing: str) -> None:
        """Say what is being done now."""
        self._doing = doing
        self._write()

    def advance(self, rows: int) -> None:
        """Count rows as done."""
        self._done += rows
        self._write()

    def _write(self) -> None:
        now = self._clock.now()
        if self._written is not None and now.timestamp() - self._written < _SECONDS_BETWEEN:
            return
        self._written = now.timestamp()
        progress = Progress(doing=self._doing, done=self._done, total=self._total, at=now)
        self._store.put_bytes(self._uri, progress.model_dump_json().encode(), content_type="application/json")
