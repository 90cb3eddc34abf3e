"""The service as a process with a real broker: killed in the middle of its work, it ends it once, and nothing half."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.db import connect
from shared.events import PipelineApplied, encode
from shared.messaging.broker import KafkaSink, Outgoing
from shared.messaging.topics import create_topics
from shared.pipeline import PipelineSpec
from shared.s3 import connect_store
from shared.settings import S3Settings
from tests.support.broker import start_tansu
from tests.support.datasets import jsonl, rows
from tests.support.delivery import fact, said
from tests.support.ingest import IngestProcess
from tests.support.wait import eventually

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


@pytest.fixture
def broker() -> Iterator[str]:
    """One for each test: Tansu blocks a group for good in which a member was killed while it joined."""
    with start_tansu(storage="memory://tansu/") as bootstrap:
        create_topics(bootstrap)
        yield bootstrap


@pytest.fixture
def process(tmp_path: Path, s3_settings: S3Settings, broker: str) -> Iterator[IngestProcess]:
    made = IngestProcess(tmp_path, s3_settings, broker)
    yield made
    made.close()


def apply_pipeline(broker: str, name: str) -> None:
    spec = PipelineSpec(base_model="tiny")
    message = encode(fact(PipelineApplied(pipeline=name, version=1, digest="sha256:" + "0" * 64, spec=spec)))
    record = Outgoing(PipelineApplied.TOPIC.value, name.encode(), message.value or b"", tuple(message.headers.items()))
    with closing(KafkaSink(broker, "test")) as sink:
        assert sink.send([record]) == [None]


def publish(process: IngestProcess, pipeline: str, data: bytes) -> str:
    """Upload rows once the service has heard of the pipeline, which it does some seconds after its start."""

    def upload() -> httpx.Response | None:
        answer = process.client.post("/v1/datasets", params={"pipeline": pipeline}, content=data)
        return None if answer.status_code == 404 else answer.raise_for_status()

    return str(eventually(upload, what=f"it knows {pipeline}").json()["dataset_id"])


def state(process: IngestProcess, dataset_id: str) -> dict[str, Any]:
    found: dict[str, Any] = process.client.get(f"/v1/datasets/{dataset_id}").json()
    return found


def ended(process: IngestProcess, dataset_id: str) -> dict[str, Any] | None:
    found = state(process, dataset_id)
    return found if found["state"] != "pending" else None


def test_killed_in_the_middle_it_ends_the_work_once(
    process: IngestProcess, broker: str, s3_settings: S3Settings
) -> None:
    apply_pipeline(broker, "crash-test")
    process.start()
    data = jsonl(rows(40_000, start=7_000_000))
    dataset_id = publish(process, "crash-test", data)
    with connect_store(s3_settings) as store:
        before = set(store.list_prefixes("datasets/"))
        for _ in range(2):
            eventually(lambda: list(process.work_dir.glob(f"{dataset_id}/*/dataset/train.parquet")), what="the work")
            process.kill()
            assert set(store.list_prefixes("datasets/")) == before
            process.start()
        done = eventually(lambda: ended(process, dataset_id), what="the end of the preparation", timeout=120)
        assert done["state"] == "prepared"
        assert sum(done["rows"].values()) == 40_000
        assert store.exists(done["artifact_uri"])
        assert len(set(store.list_prefixes("datasets/")) - before) == 1
    assert process.stop() == 0
    assert list(process.work_dir.glob("*")) == []
    engine = connect(process.database_url)
    assert [kind for kind, _ in said(engine)] == ["dataset.published.v1", "dataset.prepared.v1"]
    engine.dispose()


def test_stopped_in_the_middle_it_ends_soon_and_orderly(process: IngestProcess, broker: str) -> None:
    apply_pipeline(broker, "stop-test")
    process.start()
    dataset_id = publish(process, "stop-test", jsonl(rows(200_000, start=8_000_000)))
    eventually(lambda: list(process.work_dir.glob(f"{dataset_id}/*/dataset/train.parquet")), what="the work")
    assert process.stop() == 0
    assert list(process.work_dir.glob("*")) == []
    process.start()
    assert state(process, dataset_id)["state"] == "pending"
