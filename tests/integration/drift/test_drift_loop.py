"""From a published dataset to a run that drift asked for, on a real broker and S3, with the drift service's process.

It is killed in the middle, and must neither forget nor repeat.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select
from typer.testing import CliRunner

import services.evaluator
import services.trainer
from services.cli.app import build_app
from services.evaluator.handlers import handlers as evaluator_handlers
from services.evaluator.models import Evaluation
from services.trainer.handlers import handlers as trainer_handlers
from services.trainer.models import Run
from shared.clock import SystemClock, VirtualClock
from shared.db import connect, migrate, reading, transaction
from shared.events import DatasetRef, Event, ModelRef, ModelRegistered, ModelStageChanged, Topic
from shared.messaging import ConsumeLoop, Handlers, ProcessLoop
from shared.messaging.broker import KafkaSink
from shared.messaging.topics import create_topics
from shared.settings import S3Settings
from tests.support import drift, facts
from tests.support.broker import start_tansu
from tests.support.delivery import START, fact
from tests.support.ingest import MIGRATIONS as INGEST_MIGRATIONS
from tests.support.ingest import ingest
from tests.support.ports import free_port
from tests.support.topics import events_on
from tests.support.wait import eventually

ON_DRIFT = {"windowSamples": 50, "averageRun": 20}


@pytest.fixture
def bootstrap() -> Iterator[str]:
    with start_tansu(storage="memory://tansu/") as address:
        create_topics(address)
        yield address


class DriftProcess:
    """``python -m services.drift`` on a fixed port and database, to be killed and started again."""

    def __init__(self, folder: Path, s3: S3Settings, bootstrap: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "drift.log"
        ours = {
            "HTTP_PORT": str(port), "DATABASE_URL": f"sqlite:///{folder}/drift.db", "KAFKA_BOOTSTRAP": bootstrap,
            "KAFKA_SESSION_TIMEOUT_MS": "2000", "S3_ENDPOINT": s3.s3_endpoint, "S3_BUCKET": s3.s3_bucket,
            "S3_ACCESS_KEY": s3.s3_access_key, "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
        }
        self._env = {**os.environ, **{f"TUNELOOP_{key}": value for key, value in ours.items()}}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "services.drift"], env=self._env, stderr=log)
        eventually(self._ready, what=f"the start of the drift service ({self._log})")

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def series(self) -> dict[str, Any]:
        """The route's only model version; empty where there is none yet."""
        items: list[dict[str, Any]] = httpx.get(f"{self.url}/v1/drift/intents").json().get("items", [])
        return items[0] if items else {}

    def taken(self) -> int:
        """Samples that this process took, whatever became of them."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith("tuneloop_drift_samples_total"))

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended with {self._process.returncode}:\n{self._log.read_text()[-3000:]}")
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def process(tmp_path: Path, s3_settings: S3Settings, bootstrap: str) -> Iterator[DriftProcess]:
    made = DriftProcess(tmp_path, s3_settings, bootstrap)
    made.start()
    yield made
    made.end()


@contextmanager
def consuming(bootstrap: str, handlers: Handlers, package: Any, folder: Path) -> Iterator[Any]:
    """A service's inbox and handlers on the broker; its database."""
    engine = connect(f"sqlite:///{folder}/{package.__name__}.db")
    migrate(engine, Path(package.__file__).parent / "migrations")
    stop, clock = threading.Event(), SystemClock()
    loops = [
        ConsumeLoop(engine=engine, handlers=handlers, bootstrap=bootstrap, group=handlers.consumer, clock=clock,
                    session_timeout_ms=2000),
        ProcessLoop(engine=engine, handlers=handlers, clock=clock),
    ]
    threads = [threading.Thread(target=loop.run, args=(stop,)) for loop in loops]  # type: ignore[attr-defined]
    for thread in threads:
        thread.start()
    try:
        yield engine
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        engine.dispose()


def prepared(folder: Path, s3: S3Settings, seed: int) -> DatasetRef:
    """A dataset that data_ingest prepared, with its profile in S3."""
    engine = connect(f"sqlite:///{folder}/ingest-{seed}.db")
    migrate(engine, INGEST_MIGRATIONS)
    with ingest(engine, s3, folder / "work", VirtualClock(START)) as service:
        service.apply_pipeline()
        lines = "\n".join(httpx.Request("POST", "http://x", json=row).content.decode() for row in drift.rows(600, seed))
        service.publish(f"drift-data-{seed}", lines.encode())
        service.work()
        with reading(engine) as session:
            from services.data_ingest.models import Dataset

            row = session.get_one(Dataset, f"drift-data-{seed}")
    engine.dispose()
    return DatasetRef.model_validate({
        "dataset_id": row.id, "artifact": {"uri": row.artifact_uri, "digest": row.artifact_digest}, "rows": row.rows,
    })


def say(bootstrap: str, *events: Event[Any]) -> None:
    sink = KafkaSink(bootstrap, "test")
    assert sink.send([drift.record(event) for event in events]) == [None] * len(events)
    sink.close()


def registered(dataset: DatasetRef) -> ModelRegistered:
    model = ModelRef(model_version="intents@1", base_model="tiny", artifact=facts.artifact("adapters", 1),
                     dataset=dataset)
    return drift.model_registered(1).model_copy(update={"model": model})


def test_drift_starts_a_run_and_a_crash_in_between_changes_nothing(
    tmp_path: Path, s3_settings: S3Settings, bootstrap: str, process: DriftProcess
) -> None:
    old, new = prepared(tmp_path, s3_settings, 1), prepared(tmp_path, s3_settings, 2)
    applied = drift.pipeline_applied(onDataset=False, onDrift={**ON_DRIFT, "action": "retrain"})
    arrived = facts.prepared(2).model_copy(update={"dataset": new})
    with consuming(bootstrap, trainer_handlers, services.trainer, tmp_path) as trainer:
        say(bootstrap, fact(applied), fact(arrived), fact(registered(old)))
        eventually(lambda: httpx.get(f"{process.url}/v1/drift/intents").status_code == 200, what="the pipeline")
        # Samples of a model version that was not heard of are not counted, so one is sent until one is.
        first = eventually(lambda: _counted(bootstrap, process), what="the first counted sample")
        say(bootstrap, *drift.samples(120, first=1000))
        eventually(lambda: process.series()["samples"] == first + 120, what="the samples like the dataset")
        assert process.series()["last_alarm"] is None
        process.end()
        say(bootstrap, *drift.samples(250, first=2000, drifted=True))
        process.start()
        run = eventually(lambda: _first(trainer, Run), what="the run")
        eventually(lambda: process.series()["samples"] == first + 370, what="all samples")
        (found,) = events_on(bootstrap, Topic.DRIFT)
        assert (run.dataset["dataset_id"], run.causation_id) == (new.dataset_id, found.id)
        assert found.data.reference == old.artifact.digest
        assert "language" in {item.feature for item in found.data.evidence}
    shown = CliRunner().invoke(build_app(), ["drift", "get", "intents", "--drift-url", process.url]).output
    assert "language" in shown
    assert found.data.drift_id in shown
    assert process.end(signal.SIGTERM) == 0


def test_drift_starts_an_evaluation_of_production(
    tmp_path: Path, s3_settings: S3Settings, bootstrap: str, process: DriftProcess
) -> None:
    dataset = prepared(tmp_path, s3_settings, 1)
    applied = drift.pipeline_applied(onDrift={**ON_DRIFT, "action": "reevaluate"})
    model = registered(dataset).model
    staged = ModelStageChanged(model=model, pipeline="intents", stage="production", previous="candidate")
    with consuming(bootstrap, evaluator_handlers, services.evaluator, tmp_path) as evaluator:
        say(bootstrap, fact(applied), fact(facts.completed()), fact(registered(dataset)))
        first_evaluation = eventually(lambda: _first(evaluator, Evaluation), what="the run's evaluation")
        with transaction(evaluator) as session:
            session.get_one(Evaluation, first_evaluation.id).passed = True
        say(bootstrap, fact(staged, sequence=2))
        eventually(lambda: _counted(bootstrap, process), what="the first counted sample")
        say(bootstrap, *drift.samples(250, first=2000, drifted=True))
        again = eventually(lambda: _repeated(evaluator), what="the evaluation")
        assert (again.cause, again.model_version) == ("drift", "intents@1")


def _first(engine: Any, model: Any) -> Any:
    with reading(engine) as session:
        return session.exec(select(model)).first()


def _repeated(engine: Any) -> Any:
    with reading(engine) as session:
        return session.exec(select(Evaluation).where(Evaluation.cause == "drift")).first()


def _counted(bootstrap: str, process: DriftProcess) -> int:
    """Send one sample, and see it taken: the samples that were counted by then."""
    sent = process.taken()
    say(bootstrap, *drift.samples(1, first=10_000 + sent))
    eventually(lambda: process.taken() > sent, what="one sample more")
    return int(process.series().get("samples", 0))
