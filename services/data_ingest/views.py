"""Datasets as the HTTP API shows them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.data_ingest.models import Dataset


class DatasetView(BaseModel):
    """A published dataset.

    Attributes:
        state: pending, prepared or rejected.
        message: what a pending dataset waits for, if for anything but its turn.
        reasons: why it was rejected.
        report: counts, problems with examples, and lengths.
    """

    dataset_id: str
    pipeline: str
    pipeline_version: int | None
    name: str
    state: str
    message: str
    reasons: list[str]
    source_uri: str
    sha256: str | None
    format: str
    artifact_uri: str | None
    artifact_digest: str | None
    rows: dict[str, int] | None
    report: dict[str, Any] | None
    correlation_id: str
    created_at: datetime
    finished_at: datetime | None


class DatasetPage(BaseModel):
    """Datasets, newest first."""

    items: list[DatasetView]


def view(row: Dataset) -> DatasetView:
    """The row for people."""
    return DatasetView(
        dataset_id=row.id, source_uri=row.uri,
        **row.model_dump(include=set(DatasetView.model_fields) - {"dataset_id", "source_uri"}),
    )
