"""data_ingest for tests: its runtime over a real store, and its process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine

import services.data_ingest
from services.data_ingest.api import build_router
from services.data_ingest.handlers import handlers
from services.data_ingest.reconcile import PrepareLoop
from services.data_ingest.settings import DataIngestSettings
from shared.clock import Clock
from shared.events import DatasetPublished, PipelineApplied
from shared.http import build_app
from shared.pipeline import DatasetRules, PipelineSpec
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore, connect_store
from shared.service import Runtime
from shared.settings import S3Settings
from tests.support.delivery import deliver, fact
from tests.support.ports import free_port
from tests.support.wait import eventually

MIGRATIONS = Path(services.data_ingest.__file__).parent / "migrations"
PIPELINE = "intents"


@dataclass
class Ingest:
    """data_ingest in this process, without a broker: events are delivered by hand, and the loop steps on request."""

    runtime: Runtime[DataIngestSettings]

    @property
    def store(self) -> ArtifactStore:
        return self.runtime.store

    @property
    def app(self) -> FastAPI:
        return build_app(self.runtime.settings, self.runtime.engine, build_router(self.runtime))

    def apply_pipeline(self, *, version: int = 1, training: TrainingRecipe | None = None, **rules: Any) -> None:
        """Tell it of a pipeline's version."""
        spec = PipelineSpec(base_model="tiny", dataset=DatasetRules(**rules), training=training or TrainingRecipe())
        applied = PipelineApplied(pipeline=PIPELINE, version=version, digest="sha256:" + "0" * 64, spec=spec)
        deliver(self.runtime.engine, handlers, fact(applied, sequence=version), clock=self.runtime.clock)

    def publish(self, dataset_id: str, data: bytes, **changes: Any) -> DatasetPublished:
        """Put rows into S3 and tell it of them, as somebody without the upload API would."""
        uri = self.store.put_bytes(f"elsewhere/{dataset_id}.jsonl", data)
        published = DatasetPublished(**{"dataset_id": dataset_id, "pipeline": PIPELINE, "uri": uri, **changes})
        deliver(self.runtime.engine, handlers, fact(published), clock=self.runtime.clock)
        return published

    def work(self) -> None:
        """Look at all datasets that are due."""
        loop = PrepareLoop(self.runtime)
        while loop.step():
            pass


@contextmanager
def ingest(engine: Engine, s3: S3Settings, work_dir: Path, clock: Clock, **settings: Any) -> Iterator[Ingest]:
    """data_ingest over a migrated database."""
    made = DataIngestSettings(**s3.model_dump(), work_dir=work_dir, **settings)
    with connect_store(s3) as store:
        yield Ingest(Runtime(settings=made, engine=engine, store=store, clock=clock, instance="test"))


class IngestProcess:
    """``python -m services.data_ingest`` on a fixed port and database, to be killed and started again."""

    def __init__(self, folder: Path, s3: S3Settings, broker: str) -> None:
        self.work_dir = folder / "work"
        self.database_url = f"sqlite:///{folder}/ingest.db"
        port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        self._log = folder / "ingest.log"
        self._process: subprocess.Popen[bytes] | None = None
        ours = {
            "HTTP_PORT": str(port), "DATABASE_URL": self.database_url, "WORK_DIR": str(self.work_dir),
            "KAFKA_BOOTSTRAP": broker, "KAFKA_SESSION_TIMEOUT_MS": "2000", "LEASE_TTL_SECONDS": "2",
            "RECONCILE_INTERVAL_SECONDS": "0.1", "S3_ENDPOINT": s3.s3_endpoint, "S3_BUCKET": s3.s3_bucket,
            "S3_ACCESS_KEY": s3.s3_access_key, "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
        }
        self._env = {**os.environ, **{f"TUNELOOP_{key}": value for key, value in ours.items()}}

    def start(self) -> None:
        """Start it, and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "services.data_ingest"], env=self._env, stderr=log)
        eventually(self._ready, what=f"data_ingest's start ({self._log})")

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        """Clean up."""
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"data_ingest ended with {self._process.returncode}:\n{self._log.read_text()[-3000:]}")
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False
