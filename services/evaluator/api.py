"""The evaluator's HTTP API: what was measured, what is being measured, and what the gates said."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlmodel import col, select

from services.evaluator.contract import Progress
from services.evaluator.models import Evaluation
from services.evaluator.settings import EvaluatorSettings
from shared.db import reading
from shared.errors import NotFoundError
from shared.events import GateResult, Measurement
from shared.service import Runtime

Limit = Annotated[int, Query(ge=1, le=500, description="at most this many items")]


class EvaluationView(BaseModel):
    """One evaluation.

    Attributes:
        state: pending, running, completed or failed.
        passed: whether every gate held; None until completed.
        cause: run, schedule or drift; the latter two measure again what is in production, `model_version`.
        production_model_version: what it is compared with; None where nothing was in production.
        reason: why it failed.
        note: why the attempt before the present one ended.
    """

    id: str
    cause: str
    model_version: str | None
    run_id: str
    pipeline: str
    pipeline_version: int
    state: str
    attempt: int
    passed: bool | None
    production_model_version: str | None
    progress: Progress | None
    measurements: list[Measurement]
    gates: list[GateResult]
    report_uri: str
    reason: str
    note: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class EvaluationPage(BaseModel):
    """Evaluations, newest first."""

    items: list[EvaluationView]


def build_router(runtime: Runtime[EvaluatorSettings]) -> APIRouter:
    """The routes, over the runtime's database."""
    router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"])

    @router.get("")
    def list_evaluations(
        pipeline: str | None = None, run_id: str | None = None, state: str | None = None, limit: Limit = 50
    ) -> EvaluationPage:
        """Evaluations, newest first."""
        query = select(Evaluation).order_by(col(Evaluation.created_at).desc(), col(Evaluation.id).desc()).limit(limit)
        for column, wanted in (
            (Evaluation.pipeline, pipeline), (Evaluation.run_id, run_id), (Evaluation.state, state),
        ):
            if wanted is not None:
                query = query.where(col(column) == wanted)
        with reading(runtime.engine) as session:
            return EvaluationPage(items=[_view(row) for row in session.exec(query)])

    @router.get("/{evaluation_id}")
    def get_evaluation(evaluation_id: str) -> EvaluationView:
        """One evaluation."""
        with reading(runtime.engine) as session:
            row = session.get(Evaluation, evaluation_id)
            if row is None:
                raise NotFoundError(f"there is no evaluation {evaluation_id!r}")
            return _view(row)

    return router


def _view(row: Evaluation) -> EvaluationView:
    version = row.production["model_version"] if row.production else None
    return EvaluationView.model_validate({**row.model_dump(), "production_model_version": version})
