"""The registry's tables: one row per pipeline, dataset, run, evaluation, model version and rollout.

Rows of the aggregates that other services own are built from their events alone, and hold the position of the newest
fact that they reflect (`final` is in `state`, `sequence` in its own column): see `decide.merge`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.db import UtcDateTime


class Base(SQLModel, registry=registry()):
    """Base of the registry's tables."""


class PipelineRow(Base, table=True):
    """A pipeline as it is now. Its row is the lock under which its versions, models and stages change.

    Attributes:
        route: the model name that its clients ask for; no two pipelines share one, because a route has one
            production version.
        labels: people's own words; a change of them alone is no new version.
    """

    __tablename__ = "pipelines"

    id: str = Field(primary_key=True)
    version: int
    route: str = Field(unique=True)
    labels: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class PipelineVersion(Base, table=True):
    """One version of a pipeline's spec; never changes."""

    __tablename__ = "pipeline_versions"

    pipeline: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    digest: str
    spec: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)


class FactRow(SQLModel):
    """What every row that is built from events has.

    Attributes:
        created_at: the time of the first fact that arrived; the order of lists.
        updated_at: the time of the newest fact.
        sequence: of the newest fact.
    """

    id: str = Field(primary_key=True)
    pipeline: str = Field(index=True)
    state: str
    reason: str | None = Field(default=None, sa_type=Text)
    correlation_id: str
    sequence: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Dataset(Base, FactRow, table=True):
    """A published dataset and, once ``prepared``, its immutable version."""

    __tablename__ = "datasets"

    name: str | None = None
    pipeline_version: int | None = None
    source_uri: str | None = None
    source_sha256: str | None = None
    format: str | None = None
    artifact_uri: str | None = None
    artifact_digest: str | None = Field(default=None, index=True)
    rows: dict[str, int] | None = Field(default=None, sa_type=JSON)
    rows_in: int | None = None
    rows_rejected: dict[str, int] | None = Field(default=None, sa_type=JSON)


class Run(Base, FactRow, table=True):
    """A training run, with how far it is."""

    __tablename__ = "runs"

    pipeline_version: int
    dataset_id: str | None = Field(default=None, index=True)
    dataset_digest: str | None = Field(default=None, index=True)
    base_model: str | None = None
    base_model_digest: str | None = None
    start_digest: str | None = None
    earlier_digest: str | None = None
    attempt: int | None = None
    job: str | None = None
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    adapter_uri: str | None = None
    adapter_digest: str | None = None
    metrics: dict[str, float] | None = Field(default=None, sa_type=JSON)
    chosen: dict[str, str] | None = Field(default=None, sa_type=JSON)


class Evaluation(Base, FactRow, table=True):
    """What was measured about a run's adapter, and what the gates said."""

    __tablename__ = "evaluations"

    run_id: str = Field(index=True)
    pipeline_version: int | None = None
    dataset_id: str | None = None
    adapter_uri: str | None = None
    adapter_digest: str | None = None
    measurements: list[dict[str, Any]] | None = Field(default=None, sa_type=JSON)
    gates: list[dict[str, Any]] | None = Field(default=None, sa_type=JSON)
    production_model_version: str | None = None
    report_uri: str | None = None


class Rollout(Base, FactRow, table=True):
    """What the registry has heard about a rollout. The rollout service knows more."""

    __tablename__ = "rollouts"

    model_version: str = Field(index=True)
    route: str
    step: int | None = None
    weight: int | None = None
    guardrail: str | None = None
    evidence: dict[str, float] | None = Field(default=None, sa_type=JSON)
    seconds_exposed: float | None = None
    users_exposed: int | None = None


class ModelVersion(Base, table=True):
    """An adapter that passed its gates: ``id`` is ``route@number``.

    The two constraints are the registry's promises: a number is given once, and a pipeline has one production version.
    """

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("route", "number", name="model_versions_number"),
        Index(
            "model_versions_one_production", "pipeline", unique=True,
            sqlite_where=text("stage = 'production'"), postgresql_where=text("stage = 'production'"),
        ),
    )

    id: str = Field(primary_key=True)
    route: str
    number: int
    pipeline: str = Field(index=True)
    pipeline_version: int
    evaluation_id: str = Field(unique=True)
    run_id: str
    base_model: str
    base_model_digest: str
    adapter_uri: str
    adapter_digest: str
    dataset: dict[str, Any] = Field(sa_type=JSON)
    stage: str
    stage_reason: str = Field(default="", sa_type=Text)
    correlation_id: str
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class RouteCounter(Base, table=True):
    """The last model version number that was given on a route."""

    __tablename__ = "route_counters"

    route: str = Field(primary_key=True)
    last: int
