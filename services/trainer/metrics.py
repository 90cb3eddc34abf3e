"""What the trainer counts. Each pipeline's counters exist at 0 from its first day: `increase` sees no first value."""

from datetime import datetime

from prometheus_client import Counter, Histogram

RUNS = Counter(
    "tuneloop_trainer_runs", "Training runs that ended: completed, failed or cancelled.", ["pipeline", "outcome"]
)
LOST_ATTEMPTS = Counter(
    "tuneloop_trainer_lost_attempts", "Attempts that ended without a result and were repeated.", ["pipeline"]
)
QUEUE_SECONDS = Histogram(
    "tuneloop_trainer_queue_seconds", "From the prepared dataset to the launch of the run's first job.", ["pipeline"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86_400),
)
RUN_SECONDS = Histogram(
    "tuneloop_trainer_run_seconds", "From the launch of the first job to the result, all attempts, completed runs.",
    ["pipeline"], buckets=(10, 30, 60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 86_400, 2 * 86_400),
)


def begin(pipeline: str) -> None:
    """A pipeline is known."""
    for outcome in ("completed", "failed", "cancelled"):
        RUNS.labels(pipeline, outcome)
    for series in (LOST_ATTEMPTS, QUEUE_SECONDS, RUN_SECONDS):
        series.labels(pipeline)


def ended(pipeline: str, outcome: str, *, started_at: datetime | None, now: datetime) -> None:
    """A run ended."""
    RUNS.labels(pipeline, outcome).inc()
    if outcome == "completed" and started_at is not None:
        RUN_SECONDS.labels(pipeline).observe((now - started_at).total_seconds())
