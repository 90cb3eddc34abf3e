"""What the registry counts: where model versions go, and how long it took them from their dataset."""

from datetime import datetime
from typing import get_args

from prometheus_client import Counter, Histogram

from shared.events import Stage

STAGE_CHANGES = Counter(
    "tuneloop_registry_stage_changes", "Model versions that entered a stage.", ["pipeline", "stage"]
)
TO_PRODUCTION_SECONDS = Histogram(
    "tuneloop_registry_dataset_to_production_seconds",
    "From a dataset's publication to its model version's promotion, the first one of each version.", ["pipeline"],
    buckets=(60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 86_400, 2 * 86_400, 4 * 86_400, 7 * 86_400),
)


def begin(pipeline: str) -> None:
    """A pipeline is known: its series exist at 0 before the first change, which `increase` would not see otherwise."""
    for stage in get_args(Stage):
        STAGE_CHANGES.labels(pipeline, stage)
    TO_PRODUCTION_SECONDS.labels(pipeline)


def promoted(pipeline: str, published_at: datetime, now: datetime) -> None:
    """A version came to production for the first time."""
    TO_PRODUCTION_SECONDS.labels(pipeline).observe((now - published_at).total_seconds())
