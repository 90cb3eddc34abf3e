"""data_ingest's tables."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.db import UtcDateTime
from shared.leases import LeasedRow

PENDING, PREPARED, REJECTED = "pending", "prepared", "rejected"


class Base(SQLModel, registry=registry()):
    """Base of data_ingest's tables."""


class KnownPipeline(Base, table=True):
    """The newest spec of a pipeline, as the registry told it."""

    __tablename__ = "pipelines"

    name: str = Field(primary_key=True)
    version: int
    spec: dict[str, Any] = Field(sa_type=JSON)


class Dataset(LeasedRow, Base, table=True):
    """A published dataset; `state` is ``pending`` until it is ``prepared`` or ``rejected``.

    Attributes:
        message: what a pending dataset waits for; empty where it just waits for its turn.
        reasons: why it was rejected.
        report: counts, problems with examples, and lengths; also of a rejected dataset that could be read.
        rows: of each split.
        causation_id: of the event that published it.
    """

    __tablename__ = "datasets"
    __table_args__ = (Index("datasets_due", "state", "next_look_at"), Index("datasets_newest", "created_at", "id"))

    pipeline: str
    name: str
    uri: str
    format: str
    sha256: str | None = None
    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    message: str = Field(default="", sa_type=Text)
    reasons: list[str] = Field(default_factory=list, sa_type=JSON)
    report: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    pipeline_version: int | None = None
    artifact_uri: str | None = None
    artifact_digest: str | None = None
    rows: dict[str, int] | None = Field(default=None, sa_type=JSON)
