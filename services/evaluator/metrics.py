"""What the evaluator counts. Each pipeline's counters exist at 0 from its first day: `increase` sees no first value."""

from prometheus_client import Counter, Histogram

EVALUATIONS = Counter(
    "tuneloop_evaluator_evaluations", "Evaluations that ended: passed, refused by a gate, or failed.",
    ["pipeline", "outcome"],
)
LOST_ATTEMPTS = Counter(
    "tuneloop_evaluator_lost_attempts", "Attempts that ended without a result and were repeated.", ["pipeline"]
)
JOB_SECONDS = Histogram(
    "tuneloop_evaluator_job_seconds", "How long the successful jobs measured.", ["pipeline"],
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)


def begin(pipeline: str) -> None:
    """A pipeline is known."""
    for outcome in ("passed", "refused", "failed"):
        EVALUATIONS.labels(pipeline, outcome)
    for series in (LOST_ATTEMPTS, JOB_SECONDS):
        series.labels(pipeline)
