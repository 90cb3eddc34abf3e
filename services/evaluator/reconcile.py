"""Drives evaluations from pending to completed or failed: launch a job, watch it, judge what it measured.

Called for each row that is due, under a lease. It remembers nothing: after a restart it finds the row, the job and
the job's files, and goes on from there.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine

from services.evaluator import decide
from services.evaluator.contract import FAILURE, JOB, PREDICTIONS, PROGRESS, RESULT, JobFile, Progress, Result
from services.evaluator.metrics import EVALUATIONS, JOB_SECONDS, LOST_ATTEMPTS
from services.evaluator.models import Evaluation, Production
from shared.clock import Clock
from shared.db import transaction
from shared.errors import NotFoundError, PermanentError
from shared.events import (
    ArtifactRef,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationRepeated,
    ModelRef,
    Payload,
    TrainingCompleted,
)
from shared.jobs import Complete, GiveUp, JobFailure, Launch, Retry, Wait, next_action
from shared.launchers import JobSpec, Launcher, job_name
from shared.leases import Lease, apply
from shared.messaging import emit
from shared.pipeline import EvaluationRules
from shared.s3 import ArtifactStore
from shared.telemetry import get_logger

log = get_logger(__name__)

ACTIVE = ("pending", "running")
JOB_MODULE = "services.evaluator.job"
F = TypeVar("F", bound=BaseModel)


@dataclass(frozen=True)
class _Seen:
    """What the present attempt's job has left in S3."""

    result: Result | None
    failure: JobFailure | None
    progress: Progress | None


class Reconciler:
    """`reconcile` for `shared.reconcile.ReconcileLoop`.

    Args:
        timeout_seconds: a job that runs longer is ended by the launcher.
    """

    def __init__(
        self, engine: Engine, store: ArtifactStore, launcher: Launcher, clock: Clock, *, timeout_seconds: float
    ) -> None:
        self._engine, self._store, self._launcher, self._clock = engine, store, launcher, clock
        self._timeout_seconds = timeout_seconds

    def __call__(self, row: Evaluation, lease: Lease) -> None:
        """One look at one evaluation, and what follows from it."""
        if not row.frozen and not self._freeze(row, lease):
            return
        if problem := _incomparable(row):
            self._give_up(row, lease, problem)
            return
        # The launcher first: a job that had ended by then has written all that it ever will.
        job = self._launcher.observe(job_name(row.id, row.attempt))
        seen = self._look(row)
        action = next_action(
            "pending" if row.state == "pending" else "running", job.state, result=seen.result is not None,
            failure=seen.failure, attempt=row.attempt, max_attempts=_rules(row).max_attempts, message=job.message,
        )
        match action:
            case Launch():
                self._launch(row, lease)
            case Wait():
                self._note_progress(row, lease, seen.progress)
            case Retry():
                self._retry(row, lease, action)
            case GiveUp(reason=reason):
                self._give_up(row, lease, reason)
            case Complete():
                assert seen.result is not None  # noqa: S101 - this is what Complete means
                self._complete(row, lease, seen.result)

    def _freeze(self, row: Evaluation, lease: Lease) -> bool:
        """Decide once which version in production this evaluation is about; False if the lease is stale."""
        with transaction(self._engine) as session:
            known = session.get(Production, row.pipeline)
            row.frozen, row.production = True, known.model if known else None
            return apply(session, Evaluation, lease, frozen=True, production=row.production)

    def _look(self, row: Evaluation) -> _Seen:
        folder = self._folder(row)
        try:
            return _Seen(
                result=self._read(folder + RESULT, Result), failure=self._read(folder + FAILURE, JobFailure),
                progress=self._read(folder + PROGRESS, Progress),
            )
        except ValidationError as error:
            message = f"what the job wrote to {folder} cannot be read: {error}"
            return _Seen(result=None, failure=JobFailure(message=message, permanent=True), progress=None)

    def _read(self, uri: str, kind: type[F]) -> F | None:
        try:
            return kind.model_validate_json(self._store.get_bytes(uri))
        except NotFoundError:
            return None

    def _launch(self, row: Evaluation, lease: Lease) -> None:
        folder = self._folder(row)
        content = job_file(row, folder).model_dump_json(indent=2).encode()
        uri = self._store.put_bytes(folder + JOB, content, content_type="application/json")
        try:
            self._launcher.launch(JobSpec(
                name=job_name(row.id, row.attempt), module=JOB_MODULE, args=["--job", uri],
                timeout_seconds=self._timeout_seconds, **_rules(row).resources.request(),
                labels={"evaluation": row.id, "attempt": str(row.attempt), "pipeline": row.pipeline},
            ))
        except PermanentError as error:
            self._give_up(row, lease, f"the job cannot be launched: {error}")
            return
        with transaction(self._engine) as session:
            apply(session, Evaluation, lease, state="running", started_at=row.started_at or self._clock.now())
        log.info("evaluation launched", evaluation=row.id, attempt=row.attempt)

    def _note_progress(self, row: Evaluation, lease: Lease, progress: Progress | None) -> None:
        news = progress.model_dump(mode="json") if progress else None
        if news != row.progress:
            with transaction(self._engine) as session:
                apply(session, Evaluation, lease, progress=news)

    def _retry(self, row: Evaluation, lease: Lease, action: Retry) -> None:
        with transaction(self._engine) as session:
            due = self._clock.now() + timedelta(seconds=action.delay)
            apply(
                session, Evaluation, lease, state="pending", attempt=action.attempt, note=action.reason, progress=None,
                next_look_at=due,
            )
        LOST_ATTEMPTS.labels(row.pipeline).inc()
        log.warning("evaluation attempt lost", evaluation=row.id, attempt=row.attempt, reason=action.reason)

    def _give_up(self, row: Evaluation, lease: Lease, reason: str) -> None:
        failed = EvaluationFailed(evaluation_id=row.id, run_id=row.run_id, pipeline=row.pipeline, reason=reason)
        if self._end(row, lease, failed, state="failed", reason=reason):
            EVALUATIONS.labels(row.pipeline, "failed").inc()
            log.error("evaluation failed", evaluation=row.id, reason=reason)

    def _complete(self, row: Evaluation, lease: Lease, result: Result) -> None:
        completed = _completed(row, result, self._folder(row) + PREDICTIONS)
        facts = completed.model_dump(mode="json", include={"passed", "measurements", "gates", "report_uri"})
        if self._end(row, lease, completed, state="completed", progress=None, **facts):
            EVALUATIONS.labels(row.pipeline, "passed" if completed.passed else "refused").inc()
            JOB_SECONDS.labels(row.pipeline).observe(result.seconds)
            log.info("evaluation completed", evaluation=row.id, passed=completed.passed, seconds=result.seconds)

    def _end(self, row: Evaluation, lease: Lease, fact: Payload, **values: Any) -> bool:
        """Write the end and say it, in one transaction; False if the lease is stale."""
        with transaction(self._engine) as session:
            if not apply(session, Evaluation, lease, finished_at=self._clock.now(), **values):
                return False
            emit(
                session, fact, source="evaluator", clock=self._clock, correlation_id=row.correlation_id,
                causation_id=row.causation_id, traceparent=row.traceparent,
            )
        return True

    def _folder(self, row: Evaluation) -> str:
        return f"s3://{self._store.bucket}/evaluations/{row.id}/{row.attempt}/"


def _completed(row: Evaluation, result: Result, report_uri: str) -> EvaluationCompleted | EvaluationRepeated:
    """The fact of a finished evaluation: of a run's adapter, or of what is in production, measured again."""
    run, production = TrainingCompleted.model_validate(row.run), _production(row)
    version = production.model_version if production else None
    gates = decide.judge(_rules(row).gates, result.measurements, production=version)
    told: dict[str, Any] = {
        "evaluation_id": row.id, "run_id": run.run_id, "pipeline": row.pipeline,
        "pipeline_version": row.pipeline_version, "dataset": run.dataset, "adapter": run.adapter,
        "passed": decide.passed(gates), "measurements": decide.reportable(result.measurements), "gates": gates,
        "report_uri": report_uri,
    }
    if row.cause != "run":
        return EvaluationRepeated.model_validate({**told, "model_version": row.model_version, "cause": row.cause})
    return EvaluationCompleted(
        **told, base_model=run.base_model, base_model_digest=run.base_model_digest, production_model_version=version,
    )


def job_file(row: Evaluation, folder: str) -> JobFile:
    """What the present attempt shall measure. `folder` is where it writes, in the bucket that has the base models."""
    run, rules, production = TrainingCompleted.model_validate(row.run), _rules(row), _production(row)
    bucket = folder.removeprefix("s3://").partition("/")[0]
    return JobFile(
        evaluation_id=row.id, attempt=row.attempt, base_model=run.base_model,
        base=ArtifactRef(uri=f"s3://{bucket}/base-models/{run.base_model}/", digest=run.base_model_digest),
        candidate=run.adapter, dataset=run.dataset, production=production,
        targets=decide.plan(rules.gates, production=production is not None),
        max_new_tokens=rules.max_new_tokens, max_rows=rules.max_rows, batch_size=rules.batch_size, output=folder,
        fresh=row.cause != "run",
    )


def _rules(row: Evaluation) -> EvaluationRules:
    return EvaluationRules.model_validate(row.rules)


def _production(row: Evaluation) -> ModelRef | None:
    return ModelRef.model_validate(row.production) if row.production else None


def _incomparable(row: Evaluation) -> str:
    """Why candidate and production cannot be compared, or ``""``."""
    run, production = TrainingCompleted.model_validate(row.run), _production(row)
    if production is None or production.base_model == run.base_model:
        return ""
    return (
        f"production {production.model_version} was made for the base model {production.base_model}, and this adapter "
        f"for {run.base_model}: they cannot be measured side by side. Use another pipeline for another base model"
    )
