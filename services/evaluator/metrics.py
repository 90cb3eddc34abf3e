"""What the evaluator counts, for Prometheus."""

from prometheus_client import Counter, Histogram

EVALUATIONS = Counter(
    "tuneloop_evaluator_evaluations", "Evaluations that ended: passed, refused by a gate, or failed.", ["outcome"]
)
LOST_ATTEMPTS = Counter("tuneloop_evaluator_lost_attempts", "Attempts that ended without a result and were repeated.")
JOB_SECONDS = Histogram(
    "tuneloop_evaluator_job_seconds", "How long the successful jobs measured.",
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)
