"""The trainer's tables."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.db import UtcDateTime
from shared.leases import LeasedRow


class Base(SQLModel, registry=registry()):
    """Base of the trainer's tables."""


class PipelineRow(Base, table=True):
    """The newest spec of each pipeline, as `pipeline.applied` told it."""

    __tablename__ = "pipelines"

    id: str = Field(primary_key=True)
    version: int
    spec: dict[str, Any] = Field(sa_type=JSON)


class NewestDataset(Base, table=True):
    """The DatasetRef of a pipeline's newest dataset version, whether it was trained on or not."""

    __tablename__ = "newest_datasets"

    pipeline: str = Field(primary_key=True)
    dataset: dict[str, Any] = Field(sa_type=JSON)
    prepared_at: datetime = Field(sa_type=UtcDateTime)


class ModelVersion(Base, table=True):
    """A `ModelRef` by its name, for runs that go on from it, with the stage that it is in since a moment."""

    __tablename__ = "model_versions"

    id: str = Field(primary_key=True)
    pipeline: str = Field(index=True)
    model: dict[str, Any] = Field(sa_type=JSON)
    stage: str
    since: datetime = Field(sa_type=UtcDateTime)


class QueuedRow(SQLModel):
    """What a run remembers of its place and of what it has taken.

    Attributes:
        queued_at: since when it waits for its place, where a retry put it there; else it does since it was created.
        admitted_at: when it got its place, which it keeps until it ends.
        began_at: when the present attempt's job was first seen at work.
        used_seconds: of work by the attempts before, for its limits.
        earlier_attempts: those before the newest retry by a person, which do not count against `maxAttempts`.
        stopped_because: the limit that it reached; the run ends once its job has.
        retried_because: a person's reason for the newest retry.
    """

    queued_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    admitted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    began_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    used_seconds: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    earlier_attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    stopped_because: str | None = Field(default=None, sa_type=Text)
    retried_because: str | None = Field(default=None, sa_type=Text)


class Run(QueuedRow, LeasedRow, Base, table=True):
    """A training run. Its id is made of pipeline, pipeline version and dataset, so that no event can start it twice.

    Attributes:
        recipe: frozen when the run was created; a later version of the pipeline does not change a run in flight.
        dataset: a `DatasetRef`.
        sources: `services.trainer.sources.Sources` of all attempts; None until they were looked up, or for want of any.
        attempt: the present one, from 1.
        cancelled_because: a person's reason; the run ends as soon as the loop sees it.
        waits_for: what keeps the present attempt's job from running; None where nothing does.
        logs: how a person reads the log of the present attempt's job.
        progress: the newest that the job wrote.
        progress_told_at: when it was last told as an event.
        result: what the job wrote at its end.
    """

    __tablename__ = "runs"

    pipeline: str = Field(index=True)
    pipeline_version: int
    base_model: str
    recipe: dict[str, Any] = Field(sa_type=JSON)
    dataset: dict[str, Any] = Field(sa_type=JSON)
    sources: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    attempt: int = 1
    reason: str | None = Field(default=None, sa_type=Text)
    cancelled_because: str | None = Field(default=None, sa_type=Text)
    waits_for: str | None = Field(default=None, sa_type=Text)
    logs: str | None = Field(default=None, sa_type=Text)
    progress: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    progress_told_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    correlation_id: str
    causation_id: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
