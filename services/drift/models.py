"""The drift service's tables: what it knows of pipelines and model versions, what it counts, and what it found."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.db import UtcDateTime
from shared.leases import LeasedRow

# SQLite numbers rows by itself only where the type is exactly INTEGER.
_SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")


class Base(SQLModel, registry=registry()):
    """Base of the drift service's tables."""


class Pipeline(Base, table=True):
    """The newest version of a pipeline that was heard of; `policy` is its OnDrift."""

    __tablename__ = "pipelines"

    id: str = Field(primary_key=True)
    version: int
    route: str = Field(index=True)
    policy: dict[str, Any] = Field(sa_type=JSON)


class ModelVersion(Base, table=True):
    """A registered model version: the DatasetRef that it was trained on, and the evaluation that let it pass."""

    __tablename__ = "model_versions"

    id: str = Field(primary_key=True)
    pipeline: str
    dataset: dict[str, Any] = Field(sa_type=JSON)
    evaluation_id: str


class Evaluated(Base, table=True):
    """What a candidate's answers looked like in its evaluation: Distribution by feature."""

    __tablename__ = "evaluated"

    evaluation_id: str = Field(primary_key=True)
    outputs: dict[str, Any] = Field(sa_type=JSON)


class Series(Base, table=True):
    """The watch over one model version on its route; `data` is SeriesState.

    Attributes:
        id: the model version, which names its route.
        problem: why nothing can be compared; empty where all is well.
    """

    __tablename__ = "series"

    id: str = Field(primary_key=True)
    route: str = Field(index=True)
    data: dict[str, Any] = Field(sa_type=JSON)
    problem: str = ""
    updated_at: datetime = Field(sa_type=UtcDateTime)


class EmbeddingWindow(LeasedRow, Base, table=True):
    """A full window that waits for its embeddings; it is gone when they were compared.

    Attributes:
        number: of the window in its series.
        window: Window, with the questions.
    """

    __tablename__ = "embedding_windows"

    model_version: str = Field(index=True)
    number: int
    window: dict[str, Any] = Field(sa_type=JSON)


class SeenSample(Base, table=True):
    """The newest samples' events, so that one that is delivered twice is counted once."""

    __tablename__ = "seen_samples"

    seq: int | None = Field(default=None, primary_key=True, sa_type=_SEQUENCE)
    event_id: str = Field(unique=True)


class AlarmRow(Base, table=True):
    """An alarm, as the DriftDetected that was said."""

    __tablename__ = "alarms"

    id: str = Field(primary_key=True)
    route: str = Field(index=True)
    model_version: str
    at: datetime = Field(sa_type=UtcDateTime, index=True)
    fact: dict[str, Any] = Field(sa_type=JSON)
