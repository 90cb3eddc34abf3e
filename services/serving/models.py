"""What the agent remembers: the routes it has heard of, and what it did about their adapters."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.db import UtcDateTime


class Base(SQLModel, registry=registry()):
    """Base of the agent's tables."""


class Route(Base, table=True):
    """The newest revision of a route."""

    __tablename__ = "routes"

    route: str = Field(primary_key=True)
    revision: int
    base_model: str
    targets: list[dict[str, Any]] = Field(sa_type=JSON)
    event_id: str
    correlation_id: str


class AdapterRow(Base, table=True):
    """An adapter that this agent loads, serves, or lets go.

    Attributes:
        state: see `services.serving.decide.State`.
        root: the folder that it is served from.
        due_at: not tried again before (``pending``), not unloaded before (``draining``), files not deleted before
            (``unloaded``); None means at once.
        attempts: failed ones since it was last loaded; they set the pause before the next.
        refusals: those of them that cannot go on for ever, see `services.serving.memory.Failure`.
        reason: the last failure.
    """

    __tablename__ = "adapters"

    model_version: str = Field(primary_key=True)
    digest: str
    root: str
    state: str
    attempts: int = 0
    refusals: int = 0
    due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    reason: str = Field(default="", sa_type=Text)
    correlation_id: str
    causation_id: str | None = None
    updated_at: datetime = Field(sa_type=UtcDateTime)


class Server(Base, table=True):
    """The model server as it was last seen; one row.

    Attributes:
        started: its process's start as it says it; "" where it does not say.
        base_digest: digest of the base model in S3; "" until it was read.
    """

    __tablename__ = "server"

    replica: str = Field(primary_key=True)
    started: str
    base_digest: str = ""
    ready_at: datetime = Field(sa_type=UtcDateTime)
