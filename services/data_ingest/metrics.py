"""What data_ingest counts. Each pipeline's counters exist at 0 from its first day: `increase` sees no first value."""

from prometheus_client import Counter, Histogram

UPLOADED_BYTES = Counter("tuneloop_data_ingest_uploaded_bytes", "Bytes of accepted uploads.")
DATASETS = Counter(
    "tuneloop_data_ingest_datasets", "Datasets by how they ended: prepared, rejected.", ["pipeline", "state"]
)
ROWS = Counter(
    "tuneloop_data_ingest_rows", "Rows by what became of them: kept, or why they were dropped.", ["pipeline", "outcome"]
)
PREPARE_SECONDS = Histogram(
    "tuneloop_data_ingest_prepare_seconds", "Time to download, check, split and store one dataset.", ["pipeline"],
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
)


def begin(pipeline: str) -> None:
    """A pipeline is known."""
    for state in ("prepared", "rejected"):
        DATASETS.labels(pipeline, state)
    ROWS.labels(pipeline, "kept")
    PREPARE_SECONDS.labels(pipeline)
