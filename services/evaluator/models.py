"""The evaluator's tables: its evaluations, and what it has heard of pipelines and of production."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.db import UtcDateTime
from shared.leases import LeasedRow


class Base(SQLModel, registry=registry()):
    """Base of the evaluator's tables."""


class PipelineRules(Base, table=True):
    """The EvaluationRules of one version of a pipeline. All are kept: a run belongs to the version it began with."""

    __tablename__ = "pipeline_rules"

    pipeline: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    rules: dict[str, Any] = Field(sa_type=JSON)


class Production(Base, table=True):
    """What is in production in a pipeline.

    Attributes:
        model: ModelRef; None once it has left.
        since: when the newest version that was heard of entered production; older news does not count.
    """

    __tablename__ = "production"

    pipeline: str = Field(primary_key=True)
    model_version: str
    model: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    since: datetime = Field(sa_type=UtcDateTime)


class NewestDataset(Base, table=True):
    """The DatasetRef of a pipeline's newest dataset version; older news does not count."""

    __tablename__ = "newest_datasets"

    pipeline: str = Field(primary_key=True)
    dataset: dict[str, Any] = Field(sa_type=JSON)
    prepared_at: datetime = Field(sa_type=UtcDateTime)


class Schedule(LeasedRow, Base, table=True):
    """When a pipeline's production is measured again; `state` is active, or off where the pipeline has no cron.

    Attributes:
        id: the pipeline.
        since: the last tick that was acted on, or when the expression was given; later ticks are due.
    """

    __tablename__ = "schedules"

    pipeline_version: int
    cron: str
    since: datetime = Field(sa_type=UtcDateTime)


class Evaluation(LeasedRow, Base, table=True):
    """One adapter being measured; `state` is pending, running, completed or failed.

    Attributes:
        cause: ``run``; or ``schedule`` or ``drift``, where what is in production is measured again.
        model_version: that is measured again; None for a run's adapter.
        run: the TrainingCompleted that asked for it, or that production came from, with the dataset to measure on.
        rules: EvaluationRules, as of the run's pipeline version.
        frozen: whether `production` was decided; from then on it stays, also for later attempts.
        production: ModelRef of the version to compare with; None where there was none.
        attempt: the present one, from 1.
        progress: what the job last said about itself.
        note: why the attempt before this one ended, if there was one.
        passed: the gates' verdict, once completed.
        reason: why it failed, once failed.
    """

    __tablename__ = "evaluations"

    cause: str = "run"
    model_version: str | None = None
    run_id: str = Field(index=True)
    pipeline: str = Field(index=True)
    pipeline_version: int
    run: dict[str, Any] = Field(sa_type=JSON)
    rules: dict[str, Any] = Field(sa_type=JSON)
    frozen: bool = False
    production: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    attempt: int = 1
    progress: dict[str, Any] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    note: str = Field(default="", sa_type=Text)
    passed: bool | None = None
    measurements: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    gates: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    report_uri: str = ""
    reason: str = Field(default="", sa_type=Text)
    correlation_id: str
    causation_id: str
    traceparent: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
