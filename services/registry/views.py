"""What the HTTP API answers with."""

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from shared.events import DatasetRef, GateResult, Measurement, Stage

V = TypeVar("V", bound=BaseModel)


class View(BaseModel):
    """Base of all answers; reads the tables' rows."""

    model_config = ConfigDict(from_attributes=True)


class Page(View, Generic[V]):
    """A part of a list, newest first. `next` is the ``after`` of the following page; null on the last one."""

    items: list[V]
    next: str | None = None


class AppliedView(View):
    """The answer to an applied pipeline. `changed` is false where the spec meant the same as the present version."""

    name: str
    version: int
    digest: str
    changed: bool


class PipelineSummary(View):
    """A pipeline as it is now. `production` is its model version in production."""

    name: str
    version: int
    digest: str
    route: str
    labels: dict[str, str]
    base_model: str
    production: str | None
    created_at: datetime
    updated_at: datetime


class PipelineView(PipelineSummary):
    """A pipeline with the spec of one version."""

    spec: dict[str, Any]


class FactView(View):
    """What everything that the registry learns from events has."""

    id: str
    pipeline: str
    state: str
    reason: str | None
    correlation_id: str = Field(description="one loop, from a dataset to its rollout; the same in logs and events")
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class DatasetView(FactView):
    """A dataset: ``published``, then ``prepared`` or ``rejected`` with the reason."""

    name: str | None
    pipeline_version: int | None
    source_uri: str | None
    source_sha256: str | None
    format: str | None
    artifact_uri: str | None
    artifact_digest: str | None
    rows: dict[str, int] | None = Field(description="rows by split")
    rows_in: int | None
    rows_rejected: dict[str, int] | None = Field(description="rejected rows by reason")


class RunView(FactView):
    """A training run: ``running``, then ``completed`` or ``failed``. Losses are mean nats per trained token."""

    pipeline_version: int
    dataset_id: str | None
    dataset_digest: str | None
    base_model: str | None
    base_model_digest: str | None
    start_digest: str | None = Field(description="of the adapter that it went on from")
    earlier_digest: str | None = Field(description="of the earlier task's dataset version")
    attempt: int | None
    job: str | None
    step: int | None
    total_steps: int | None
    loss: float | None
    validation_loss: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    started_at: datetime | None
    adapter_uri: str | None
    adapter_digest: str | None
    metrics: dict[str, float] | None
    chosen: dict[str, str] | None = Field(description="what the recipe left open, by its key: what was chosen, and why")


class EvaluationView(FactView):
    """An evaluation: ``passed`` all gates, ``refused`` by one, or ``failed`` to be made."""

    run_id: str
    pipeline_version: int | None
    dataset_id: str | None
    adapter_uri: str | None
    adapter_digest: str | None
    measurements: list[Measurement] | None
    gates: list[GateResult] | None
    production_model_version: str | None
    report_uri: str | None


class RolloutView(FactView):
    """The end or the newest step of a rollout; `state` is its phase, `weight` in basis points."""

    model_version: str
    route: str
    step: int | None
    weight: int | None
    guardrail: str | None
    evidence: dict[str, float] | None
    seconds_exposed: float | None
    users_exposed: int | None


class ModelView(View):
    """A model version."""

    model_version: str = Field(validation_alias="id")
    pipeline: str
    pipeline_version: int
    route: str
    number: int
    stage: Stage
    stage_reason: str
    evaluation_id: str
    run_id: str
    base_model: str
    base_model_digest: str
    adapter_uri: str
    adapter_digest: str
    dataset: DatasetRef
    correlation_id: str
    created_at: datetime
    updated_at: datetime


class PipelineVersionView(View):
    """The spec that a model was made by."""

    pipeline: str
    version: int
    digest: str
    spec: dict[str, Any]
    created_at: datetime


class LineageView(View):
    """Where a model version comes from, and what became of it.

    A part is null while its fact has not arrived: topics are independent, so an evaluation may be known before the
    end of its run.
    """

    model: ModelView
    pipeline: PipelineVersionView | None
    dataset: DatasetView | None
    run: RunView | None
    evaluation: EvaluationView | None
    rollout: RolloutView | None
