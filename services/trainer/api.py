"""The trainer's HTTP API: what it is doing, and how to stop it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from sqlmodel import col, select

from services.trainer.models import Run
from services.trainer.reconcile import ACTIVE
from services.trainer.settings import TrainerSettings
from shared.db import reading, transaction
from shared.errors import ConflictError, NotFoundError
from shared.events import TrainingRetried
from shared.launchers import Launcher, job_name
from shared.leases import interrupt
from shared.messaging import emit
from shared.service import Runtime


class RunView(BaseModel):
    """A run as the trainer sees it. The registry has the history."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    pipeline: str
    pipeline_version: int
    state: str
    attempt: int
    base_model: str
    dataset: dict[str, Any]
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    reason: str | None
    waits_for: str | None
    logs: str | None
    used_seconds: float
    retried_because: str | None


class RunPage(BaseModel):
    """Runs, newest first."""

    items: list[RunView]


class ReasonBody(BaseModel):
    """Why a run shall end, or go on; it is kept with the run."""

    model_config = ConfigDict(extra="forbid")

    reason: str = "no reason given"


def build_router(runtime: Runtime[TrainerSettings], launcher: Launcher) -> APIRouter:
    """The routes, over the runtime's database."""
    router = APIRouter(prefix="/v1/runs", tags=["runs"])
    engine = runtime.engine

    @router.get("")
    def list_runs(limit: Annotated[int, Query(ge=1, le=500)] = 50, pipeline: str | None = None) -> RunPage:
        query = select(Run).order_by(col(Run.created_at).desc(), col(Run.id)).limit(limit)
        if pipeline is not None:
            query = query.where(Run.pipeline == pipeline)
        with reading(engine) as session:
            return RunPage(items=[RunView.model_validate(run) for run in session.exec(query).all()])

    @router.get("/{run_id}")
    def get_run(run_id: str) -> RunView:
        with reading(engine) as session:
            return RunView.model_validate(_found(session.get(Run, run_id), run_id))

    @router.get("/{run_id}/logs")
    def get_logs(run_id: str) -> dict[str, str]:
        """The last lines of the present attempt's job."""
        with reading(engine) as session:
            run = _found(session.get(Run, run_id), run_id)
            return {"run_id": run_id, "text": launcher.logs(job_name("train", run.id, run.attempt))}

    @router.post("/{run_id}/cancel", status_code=202)
    def cancel_run(run_id: str, body: ReasonBody) -> RunView:
        """Ask a run to end. Its checkpoints stay."""
        with transaction(engine) as session:
            run = _found(session.get(Run, run_id), run_id)
            if run.state not in ACTIVE:
                raise ConflictError(f"run {run_id} has ended already: it is {run.state}")
            interrupt(session, Run, run_id, cancelled_because=body.reason)
        return get_run(run_id)

    @router.post("/{run_id}/retry", status_code=202)
    def retry_run(run_id: str, body: ReasonBody) -> RunView:
        """Let a run that failed or was cancelled go on from its newest checkpoint, with all its attempts and limits."""
        now = runtime.clock.now()
        with transaction(engine) as session:
            run = _found(session.get(Run, run_id), run_id)
            if run.state not in ("failed", "cancelled"):
                raise ConflictError(f"run {run_id} is {run.state}; only one that failed or was cancelled is retried")
            interrupt(
                session, Run, run_id, state="pending", attempt=run.attempt + 1, earlier_attempts=run.attempt,
                queued_at=now, admitted_at=None, used_seconds=0.0, cancelled_because=None, stopped_because=None,
                retried_because=body.reason, reason=f"retried: {body.reason}", finished_at=None, logs=None,
            )
            emit(session, TrainingRetried(
                run_id=run.id, pipeline=run.pipeline, pipeline_version=run.pipeline_version, attempt=run.attempt + 1,
                reason=body.reason,
            ), source="trainer", clock=runtime.clock, correlation_id=run.correlation_id, causation_id=run.causation_id)
        return get_run(run_id)

    return router


def _found(run: Run | None, run_id: str) -> Run:
    if run is None:
        raise NotFoundError(f"no run {run_id}; `tuneloop runs list` shows those that exist")
    return run
