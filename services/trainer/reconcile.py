"""Drives runs to their end: launches the job of each attempt, watches it, tells what it does, takes its result."""

from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from sqlmodel import select

from services.trainer import decide, metrics
from services.trainer.admission import admit
from services.trainer.files import JobInput, Progress, Result, checkpoints_of, prefix_of
from services.trainer.models import PipelineRow, Run
from services.trainer.settings import TrainerSettings
from services.trainer.sources import Sources, find, needed
from services.trainer.usage import check_price, limit_reached, price_of
from shared.db import reading, transaction
from shared.errors import ConflictError, NotFoundError, PermanentError
from shared.events import (
    DatasetRef,
    Payload,
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingStarted,
)
from shared.jobs import Complete, GiveUp, JobFailure, Launch, Retry, Wait, next_action
from shared.launchers import JobSpec, JobStatus, Launcher, job_name
from shared.leases import Lease, apply
from shared.messaging import emit
from shared.recipe import TrainingRecipe
from shared.reconcile import ReconcileLoop
from shared.service import Runtime
from shared.telemetry import get_logger

log = get_logger(__name__)

ACTIVE = ("pending", "running")
M = TypeVar("M", bound=BaseModel)


class RunReconciler:
    """One look at one run; see `ReconcileLoop`."""

    def __init__(self, runtime: Runtime[TrainerSettings], launcher: Launcher) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._launcher = launcher
        self._clock = runtime.clock
        self._store = runtime.store

    def loop(self) -> ReconcileLoop[Run]:
        """The loop that calls `look` for every run that has not ended."""
        with reading(self._runtime.engine) as session:
            for pipeline in session.exec(select(PipelineRow.id)):
                metrics.begin(pipeline)
        return ReconcileLoop(
            name="runs", engine=self._runtime.engine, model=Run, states=ACTIVE, owner=self._runtime.instance,
            clock=self._clock, reconcile=self.look, ttl=self._settings.lease_ttl_seconds,
            interval=self._settings.reconcile_interval_seconds,
        )

    def look(self, run: Run, lease: Lease) -> None:
        """Observe the run's present attempt, decide, act, and write down what follows."""
        job = job_name("train", run.id, run.attempt)
        if run.cancelled_because is not None:
            self._launcher.cancel(job)
            self._end(run, lease, "cancelled", f"cancelled: {run.cancelled_because}")
            return
        if run.state == "pending" and not self._has_its_turn(run, lease):
            return
        # The launcher before the files: see `shared.jobs`.
        status = self._launcher.observe(job)
        began = run.state == "running" or status.state != "absent"
        # Before its launch an attempt has no files; what is there then is not ours, see `_launch`.
        result = self._read(run, "result.json", Result) if began else None
        action = next_action(
            "running" if run.state == "running" else "pending", status.state, result=result is not None,
            failure=self._read(run, "failure.json", JobFailure) if began else None,
            attempt=run.attempt - run.earlier_attempts, message=status.message,
            max_attempts=TrainingRecipe.model_validate(run.recipe).max_attempts,
        )
        if run.stopped_because is not None and not isinstance(action, Wait | Complete):
            self._end(run, lease, "failed", f"stopped at its limit: {run.stopped_because}. Its checkpoints stay: "
                      "`tuneloop runs retry` goes on from the newest with the same limit again")
            return
        match action:
            case Launch():
                self._launch(run, lease, job)
            case Wait():
                self._note(run, lease, status)
                self._tell_progress(run, lease)
                self._stop_at_limit(run, lease, job)
            case Complete() if result is not None:
                self._complete(run, lease, result)
            case Retry(delay=delay, reason=reason):
                log.warning("attempt lost", run=run.id, attempt=run.attempt, reason=reason)
                due = self._clock.now() + timedelta(seconds=delay)
                if self._write(run, lease, None, state="pending", attempt=run.attempt + 1, reason=reason, logs=None,
                               next_look_at=due, waits_for=None, used_seconds=self._used(run), began_at=None):
                    metrics.LOST_ATTEMPTS.labels(run.pipeline).inc()
            case GiveUp(reason=reason):
                self._end(run, lease, "failed", reason)

    def _has_its_turn(self, run: Run, lease: Lease) -> bool:
        try:
            check_price(TrainingRecipe.model_validate(run.recipe), self._settings.hourly_prices)
        except PermanentError as error:
            self._end(run, lease, "failed", str(error))
            return False
        with transaction(self._runtime.engine) as session:
            return admit(session, run, lease, self._settings, self._clock.now())

    def _used(self, run: Run) -> float:
        """Seconds of work by all attempts since the last retry by a person."""
        present = (self._clock.now() - run.began_at).total_seconds() if run.began_at is not None else 0.0
        return run.used_seconds + present

    def _stop_at_limit(self, run: Run, lease: Lease, job: str) -> None:
        """Ask the job to end, which saves a checkpoint first; the run ends when the job has."""
        recipe = TrainingRecipe.model_validate(run.recipe)
        reached = limit_reached(recipe.limits, self._used(run), price_of(recipe, self._settings.hourly_prices))
        if reached is not None:
            self._launcher.cancel(job)
            if run.stopped_because is None:
                self._write(run, lease, None, stopped_because=reached)

    def _launch(self, run: Run, lease: Lease, job: str) -> None:
        prefix = prefix_of(run.id, run.attempt)
        sources = self._sources(run, lease)
        if sources is None:
            return
        work = JobInput(
            run_id=run.id, pipeline=run.pipeline, attempt=run.attempt, prefix=prefix,
            dataset=DatasetRef.model_validate(run.dataset), base_model=run.base_model,
            recipe=TrainingRecipe.model_validate(run.recipe), resume_from=checkpoints_of(run.id, run.attempt),
            trackers=self._settings.trackers,
            start=sources.start, earlier=sources.earlier, judge=sources.judge,
        )
        content = work.model_dump_json(by_alias=True).encode()
        try:
            uri = self._store.put_bytes(f"{prefix}job.json", content, if_absent=True)
        except ConflictError as error:
            self._end(run, lease, "failed", f"{prefix}job.json in {self._store.bucket} is of another run with this "
                      f"name, perhaps of another installation: {error}. Remove it, or use another bucket")
            return
        try:
            self._launcher.launch(self._job_spec(run, job, uri, work.recipe))
        except PermanentError as error:
            self._end(run, lease, "failed", f"the job cannot be launched: {error}")
            return
        started = TrainingStarted(**self._names(run), dataset=work.dataset, base_model=run.base_model,
                                  attempt=run.attempt, job=job, start=sources.start, earlier=sources.earlier)
        now = self._clock.now()
        if self._write(run, lease, started, state="running", started_at=run.started_at or now) and not run.started_at:
            metrics.QUEUE_SECONDS.labels(run.pipeline).observe((now - run.created_at).total_seconds())

    def _sources(self, run: Run, lease: Lease) -> Sources | None:
        """What all attempts of the run learn from, found before the first; None where it cannot be launched."""
        recipe = TrainingRecipe.model_validate(run.recipe)
        if run.sources is not None:
            return Sources.model_validate(run.sources)
        if not needed(recipe):
            return Sources()
        try:
            sources = find(self._runtime.engine, self._store, pipeline=run.pipeline, base_model=run.base_model,
                           recipe=recipe)
        except PermanentError as error:
            self._end(run, lease, "failed", str(error))
            return None
        return sources if self._write(run, lease, None, sources=sources.model_dump(mode="json")) else None

    def _job_spec(self, run: Run, job: str, uri: str, recipe: TrainingRecipe) -> JobSpec:
        return JobSpec(
            name=job, module="services.trainer.job", args=[uri],
            labels={"run": run.id, "attempt": str(run.attempt), "pipeline": run.pipeline},
            timeout_seconds=self._settings.training_timeout_seconds, **recipe.resources.request(),
        )

    def _note(self, run: Run, lease: Lease, status: JobStatus) -> None:
        """Keep what the launcher says, for people: what the job waits for, and how to read its log."""
        told: dict[str, Any] = {"waits_for": status.message or None, "logs": status.logs or None}
        if run.began_at is None and status.state == "running":
            told["began_at"] = self._clock.now()
        if told != {name: getattr(run, name) for name in told}:
            self._write(run, lease, None, **told)

    def _tell_progress(self, run: Run, lease: Lease) -> None:
        progress = self._read(run, "progress.json", Progress)
        old = Progress.model_validate(run.progress) if run.progress else None
        every = timedelta(seconds=self._settings.progress_seconds)
        now = self._clock.now()
        if progress is None:
            return
        if not decide.worth_telling(progress, old, now=now, told_at=run.progress_told_at, every=every):
            return
        told = TrainingProgressed(**self._names(run), attempt=run.attempt, **progress.model_dump())
        self._write(run, lease, told, progress=progress.model_dump(), progress_told_at=now)

    def _complete(self, run: Run, lease: Lease, result: Result) -> None:
        sources = Sources.model_validate(run.sources or {})
        completed = TrainingCompleted(
            **self._names(run), dataset=DatasetRef.model_validate(run.dataset), base_model=run.base_model,
            base_model_digest=result.base_model_digest, adapter=result.adapter, attempt=run.attempt,
            steps=result.steps, metrics=result.metrics, chosen=result.chosen,
            start=sources.start, earlier=sources.earlier,
        )
        self._finish(run, lease, completed, "completed", result=result.model_dump(mode="json"), reason=None)

    def _end(self, run: Run, lease: Lease, state: str, reason: str) -> None:
        failed = TrainingFailed(**self._names(run), attempt=run.attempt, reason=reason)
        self._finish(run, lease, failed, state, reason=reason)

    def _finish(self, run: Run, lease: Lease, fact: Payload, state: str, **values: Any) -> None:
        now = self._clock.now()
        if self._write(run, lease, fact, state=state, waits_for=None, finished_at=now, used_seconds=self._used(run),
                       began_at=None, **values):
            metrics.ended(run.pipeline, state, started_at=run.started_at, now=now)

    def _write(self, run: Run, lease: Lease, fact: Payload | None, **values: Any) -> bool:
        """The row's change and the fact that follows from it, together; False, and neither, if the lease is stale."""
        with transaction(self._runtime.engine) as session:
            held = apply(session, Run, lease, **values)
            if held and fact is not None:
                emit(session, fact, source="trainer", clock=self._clock, correlation_id=run.correlation_id,
                     causation_id=run.causation_id)
        return held

    def _read(self, run: Run, name: str, model: type[M]) -> M | None:
        """One of the attempt's files, or None where it is not there. An unreadable one is the same as none."""
        key = f"{prefix_of(run.id, run.attempt)}{name}"
        try:
            return model.model_validate_json(self._store.get_bytes(f"s3://{self._store.bucket}/{key}"))
        except NotFoundError:
            return None
        except ValidationError as error:
            log.warning("the job wrote something else than was agreed", file=key, error=str(error))
            return None

    def _names(self, run: Run) -> dict[str, Any]:
        return {"run_id": run.id, "pipeline": run.pipeline, "pipeline_version": run.pipeline_version}
