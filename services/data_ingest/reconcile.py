"""The work on a published dataset: fetch it, prepare it, store it, tell.

Everything may be done twice: the artifact's address is its content, and the fact is told only by the holder of the
newest lease, in the transaction that ends the row.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from sqlmodel import select

from services.data_ingest import metrics
from services.data_ingest.decide import unknown_format, waited_too_long
from services.data_ingest.models import PENDING, PREPARED, REJECTED, Dataset, KnownPipeline
from services.data_ingest.prepare import Prepared, prepare
from services.data_ingest.report import Report
from services.data_ingest.settings import DataIngestSettings
from shared.db import reading, transaction
from shared.errors import IntegrityError, InvalidInputError, NotFoundError, TemporaryError
from shared.events import DatasetPrepared, DatasetRef, DatasetRejected, Payload
from shared.leases import Lease, apply
from shared.messaging import emit
from shared.pipeline import PipelineSpec
from shared.reconcile import ReconcileLoop
from shared.service import Runtime
from shared.telemetry import get_logger, span

log = get_logger(__name__)

# Between looks for a pipeline whose event may be on its way.
_PIPELINE_LOOK = timedelta(seconds=1)


class PrepareLoop:
    """Prepares the datasets that wait, one after another."""

    name = "prepare"

    def __init__(self, runtime: Runtime[DataIngestSettings]) -> None:
        self._stop = threading.Event()
        settings = runtime.settings
        with reading(runtime.engine) as session:
            for pipeline in session.exec(select(KnownPipeline.name)):
                metrics.begin(pipeline)
        reconciler = Reconciler(runtime, stopped=self._is_stopped)
        self._loop = ReconcileLoop(
            name=self.name, engine=runtime.engine, model=Dataset, states=(PENDING,), owner=runtime.instance,
            clock=runtime.clock, reconcile=reconciler, ttl=settings.lease_ttl_seconds,
            interval=settings.reconcile_interval_seconds,
        )

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; a preparation under way is given up then, and begun again after the restart."""
        self._stop = stop
        self._loop.run(stop)

    def step(self) -> bool:
        """Look at one dataset that is due; False if there was none."""
        return self._loop.step()

    def _is_stopped(self) -> bool:
        return self._stop.is_set()


class Reconciler:
    """One look at one pending dataset."""

    def __init__(self, runtime: Runtime[DataIngestSettings], *, stopped: Callable[[], bool] = lambda: False) -> None:
        self._runtime = runtime
        self._stopped = stopped

    def __call__(self, row: Dataset, lease: Lease) -> None:
        with span("prepare dataset", row.traceparent, dataset=row.id, pipeline=row.pipeline):
            pipeline = self._pipeline(row.pipeline)
            if pipeline is None:
                self._without_pipeline(row, lease)
                return
            problem = unknown_format(row.format)
            if problem is not None:
                self._reject(row, lease, [problem], None)
                return
            try:
                with metrics.PREPARE_SECONDS.labels(row.pipeline).time():
                    self._prepare(row, lease, pipeline)
            except Exception as error:
                # For whoever asks why it takes so long; the loop looks again later.
                self._apply(lease, message=f"trying again: {error}")
                raise

    def _pipeline(self, name: str) -> KnownPipeline | None:
        with reading(self._runtime.engine) as session:
            return session.get(KnownPipeline, name)

    def _without_pipeline(self, row: Dataset, lease: Lease) -> None:
        grace = timedelta(seconds=self._runtime.settings.pipeline_grace_seconds)
        now = self._runtime.clock.now()
        if waited_too_long(row.created_at, now, grace):
            self._reject(row, lease, [
                f"there is no pipeline {row.pipeline!r}, and none was applied within {grace.total_seconds():g} s; "
                "apply it first (tuneloop apply), then publish the dataset again"
            ], None)
            return
        message = f"waiting for the pipeline {row.pipeline!r} to be applied"
        self._apply(lease, message=message, next_look_at=now + _PIPELINE_LOOK)

    def _prepare(self, row: Dataset, lease: Lease, pipeline: KnownPipeline) -> None:
        spec = PipelineSpec.model_validate(pipeline.spec)
        with self._scratch(lease) as scratch:
            source = scratch / "source"
            try:
                self._runtime.store.download(row.uri, source, sha256=row.sha256)
            except (NotFoundError, IntegrityError, InvalidInputError) as error:
                self._reject(row, lease, [f"{error}; publish the dataset again"], None)
                return
            done = prepare(
                source, scratch, spec.dataset, objective=spec.training.objective,
                by_task=spec.training.multi_task is not None, on_line=self._check_stopped,
            )
            if done.reasons or done.report is None:
                self._reject(row, lease, done.reasons, done.report)
                return
            self._store(row, lease, pipeline, done, done.report)

    def _store(self, row: Dataset, lease: Lease, pipeline: KnownPipeline, done: Prepared, report: Report) -> None:
        artifact = self._runtime.store.put_dir("datasets", done.folder)
        fact = DatasetPrepared(
            dataset_id=row.id, pipeline=row.pipeline, pipeline_version=pipeline.version,
            dataset=DatasetRef(dataset_id=row.id, artifact=artifact, rows=report.rows), source_uri=row.uri,
            rows_in=report.rows_in, rows_rejected=report.dropped, name=row.name,
        )
        ended = self._finish(
            row, lease, fact, state=PREPARED, report=report.model_dump(mode="json"), rows=report.rows,
            pipeline_version=pipeline.version, artifact_uri=artifact.uri, artifact_digest=artifact.digest,
        )
        if ended:
            _count(row.pipeline, report)
            log.info("dataset prepared", dataset=row.id, artifact=artifact.uri, rows=report.rows)

    def _reject(self, row: Dataset, lease: Lease, reasons: list[str], report: Report | None) -> None:
        fact = DatasetRejected(
            dataset_id=row.id, pipeline=row.pipeline, reasons=reasons, source_uri=row.uri, name=row.name
        )
        stored = report.model_dump(mode="json") if report else None
        if self._finish(row, lease, fact, state=REJECTED, reasons=reasons, report=stored):
            log.warning("dataset rejected", dataset=row.id, reasons=reasons)

    def _finish(self, row: Dataset, lease: Lease, fact: Payload, *, state: str, **values: object) -> bool:
        """End the row and tell the fact; False if somebody else has the row now, and nothing was done."""
        clock = self._runtime.clock
        with transaction(self._runtime.engine) as session:
            held = apply(session, Dataset, lease, state=state, message="", finished_at=clock.now(), **values)
            if held:
                emit(session, fact, source=DataIngestSettings.service, clock=clock,
                     correlation_id=row.correlation_id, causation_id=row.causation_id)
        if held:
            metrics.DATASETS.labels(row.pipeline, state).inc()
        return held

    def _apply(self, lease: Lease, **values: object) -> None:
        with transaction(self._runtime.engine) as session:
            apply(session, Dataset, lease, **values)

    def _check_stopped(self) -> None:
        if self._stopped():
            raise TemporaryError("the service is stopping; the preparation begins again after its restart")

    @contextmanager
    def _scratch(self, lease: Lease) -> Iterator[Path]:
        """An empty folder for this lease. What a killed holder of an older lease left behind is removed."""
        root = self._runtime.settings.work_dir / lease.row_id
        shutil.rmtree(root, ignore_errors=True)
        folder = root / str(lease.epoch)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                root.rmdir()  # unless a newer holder works in it


def _count(pipeline: str, report: Report) -> None:
    metrics.ROWS.labels(pipeline, "kept").inc(report.rows_kept)
    for reason, count in report.dropped.items():
        metrics.ROWS.labels(pipeline, reason).inc(count)
