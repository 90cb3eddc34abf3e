"""Published datasets become versions in a real S3, or are refused with reasons; on both databases."""

import itertools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlmodel import select

from services.data_ingest.handlers import handlers
from services.data_ingest.models import Dataset, KnownPipeline
from services.data_ingest.reconcile import Reconciler
from shared.clock import VirtualClock
from shared.db import reading, transaction
from shared.errors import TemporaryError
from shared.events import ArtifactRef, DatasetPublished
from shared.leases import Lease, claim, interrupt
from shared.recipe import TrainingRecipe
from shared.recipe_parts import MultiTask
from shared.s3 import sha256_of
from tests.support.datasets import jsonl, rows
from tests.support.delivery import deliver, fact, said, unhandled
from tests.support.ingest import PIPELINE, Ingest
from tests.support.metrics import risen, shown

pytestmark = pytest.mark.integration
_NUMBERS = itertools.count()


def unique_rows(count: int = 100) -> list[dict[str, Any]]:
    """Rows that no other test stores, so that an artifact that is there was stored by this one."""
    start = next(_NUMBERS) * 100_000
    return rows(count, start=start)


def row(service: Ingest, dataset_id: str) -> Dataset:
    with reading(service.runtime.engine) as session:
        found = session.get(Dataset, dataset_id)
    assert found is not None
    return found


def facts(service: Ingest) -> list[tuple[str, dict[str, Any]]]:
    return said(service.runtime.engine)


def stored_artifacts(service: Ingest) -> set[str]:
    return {uri for uri in service.store.list_prefixes("datasets/") if service.store.manifest(uri)}


def work_files(service: Ingest) -> list[Path]:
    return list(service.runtime.settings.work_dir.glob("*"))


def claim_for_a_moment(service: Ingest) -> tuple[Dataset, Lease]:
    """Take the dataset that is due under a lease that is over at once, so that the loop can take it too."""
    now = service.runtime.clock.now()
    with transaction(service.runtime.engine) as session:
        claimed = claim(session, Dataset, states=("pending",), owner="me", now=now, ttl=timedelta(0))
    assert claimed is not None
    return claimed


def test_good_dataset_is_prepared(service: Ingest, tmp_path: Path) -> None:
    service.apply_pipeline(version=3)
    counted = shown("tuneloop_data_ingest_datasets_total", pipeline=PIPELINE, state="prepared")
    published = service.publish("d1", jsonl(unique_rows(200)) + b"{broken\n", name="monday")
    service.work()
    (kind, payload), = facts(service)
    assert kind == "dataset.prepared.v1"
    assert (payload["dataset_id"], payload["name"], payload["pipeline_version"]) == ("d1", "monday", 3)
    assert (payload["source_uri"], payload["rows_in"]) == (published.uri, 201)
    assert payload["rows_rejected"] == {"not_json": 1}
    manifest = service.store.get_dir(ArtifactRef.model_validate(payload["dataset"]["artifact"]), tmp_path / "got")
    assert manifest.kind == "datasets"
    for split, count in payload["dataset"]["rows"].items():
        assert pq.read_table(tmp_path / f"got/{split}.parquet").num_rows == count
    assert json.loads((tmp_path / "got/report.json").read_text()) == row(service, "d1").report
    assert row(service, "d1").state == "prepared"
    assert work_files(service) == []
    assert risen("tuneloop_data_ingest_datasets_total", counted, pipeline=PIPELINE, state="prepared") == 1


def test_rows_are_read_as_the_pipeline_s_training_wants_them(service: Ingest, tmp_path: Path) -> None:
    service.apply_pipeline(training=TrainingRecipe(multi_task=MultiTask()))
    tasks = unique_rows()
    service.publish("tasks", jsonl(item | {"task": f"task-{index % 2}"} for index, item in enumerate(tasks)))
    service.work()
    service.apply_pipeline(version=2, training=TrainingRecipe(objective="pretrain"))
    service.publish("texts", jsonl({"text": f"\t{item['prompt']}  \r\n"} for item in tasks))
    service.work()
    service.publish("answers", jsonl(tasks))
    service.work()
    (_, by_task), (_, texts), (kind, refused) = facts(service)
    for name, payload, column in (("a", by_task, "task"), ("b", texts, "text")):
        service.store.get_dir(ArtifactRef.model_validate(payload["dataset"]["artifact"]), tmp_path / name)
        assert column in pq.read_schema(tmp_path / name / "train.parquet").names
    assert row(service, "tasks").report["tasks"].keys() == {"task-0", "task-1"}  # type: ignore[index]
    assert kind == "dataset.rejected.v1"
    assert any("no_text: 100 rows" in reason and "objective: sft" in reason for reason in refused["reasons"])


def test_same_bytes_published_twice_are_one_version(service: Ingest) -> None:
    service.apply_pipeline()
    data = jsonl(unique_rows())
    service.publish("d1", data)
    service.work()
    service.apply_pipeline(version=2)
    service.publish("d2", data)
    service.work()
    first, second = (payload["dataset"]["artifact"] for _, payload in facts(service))
    assert first == second


def test_same_event_again_changes_nothing(service: Ingest) -> None:
    service.apply_pipeline()
    published = service.publish("d1", jsonl(unique_rows()))
    service.work()
    deliver(service.runtime.engine, handlers, fact(published, sequence=2))
    service.work()
    assert len(facts(service)) == 1
    other = published.model_copy(update={"uri": "s3://tuneloop-test/other"})
    deliver(service.runtime.engine, handlers, fact(other, sequence=3))
    assert "publish it under another id" in unhandled(service.runtime.engine)["dataset.published.v1"]
    assert row(service, "d1").uri == published.uri


def test_newest_spec_wins_whatever_the_order(service: Ingest) -> None:
    service.apply_pipeline(version=2, min_rows=50)
    service.apply_pipeline(version=1, min_rows=20)
    with reading(service.runtime.engine) as session:
        (known,) = session.exec(select(KnownPipeline)).all()
    assert (known.version, known.spec["dataset"]["minRows"]) == (2, 50)


@pytest.mark.parametrize(
    ("data", "changes", "words"),
    [
        (b"", {}, ["the file is empty (0 bytes)"]),
        (b"{broken\n" * 30, {}, ["30 of 30 rows are bad (100.0%)", "row 1: not JSON"]),
        ('{"prompt": "é", "completion": "a"}\n'.encode("latin-1") * 30, {}, ["row 1: not UTF-8: byte 13 of the row"]),
        (b'{"prompt": "' + b"x" * 5_000_000 + b'", "completion": "a"}\n', {}, ["row 1: the row has 5000033 bytes"]),
        (jsonl(rows(5)), {}, ["5 good rows are too few, at least 20"]),
        (jsonl(rows(50)), {"sha256": "sha256:" + "0" * 64}, ["expected digest sha256:000", "publish"]),
        (jsonl(rows(50)), {"format": "csv"}, ["unknown format 'csv'; supported: jsonl"]),
        (jsonl(rows(50)), {"uri": "s3://tuneloop-test/no/such/object"},
         ["s3://tuneloop-test/no/such/object: there is no such object"]),
    ],
    ids=["empty", "malformed", "encoding", "5mb-row", "few-rows", "sha256", "format", "missing"],
)
def test_bad_datasets_are_rejected_with_the_place(
    service: Ingest, data: bytes, changes: dict[str, Any], words: list[str]
) -> None:
    before = stored_artifacts(service)
    service.apply_pipeline()
    service.publish("d1", data, **changes)
    service.work()
    (kind, payload), = facts(service)
    assert kind == "dataset.rejected.v1"
    for word in words:
        assert word in " | ".join(payload["reasons"])
    stored = row(service, "d1")
    assert (stored.state, stored.reasons, stored.artifact_uri) == ("rejected", payload["reasons"], None)
    assert stored_artifacts(service) == before
    assert work_files(service) == []


def test_the_right_digest_is_accepted(service: Ingest, tmp_path: Path) -> None:
    service.apply_pipeline()
    (tmp_path / "f").write_bytes(jsonl(unique_rows()))
    service.publish("d1", (tmp_path / "f").read_bytes(), sha256=sha256_of(tmp_path / "f"))
    service.work()
    assert row(service, "d1").state == "prepared"


def test_pipeline_whose_event_comes_later(service: Ingest, clock: VirtualClock) -> None:
    service.publish("d1", jsonl(unique_rows()))
    service.work()
    assert row(service, "d1").message == "waiting for the pipeline 'intents' to be applied"
    clock.advance(30)
    service.apply_pipeline()
    service.work()
    assert row(service, "d1").state == "prepared"


def test_pipeline_that_never_comes(service: Ingest, clock: VirtualClock) -> None:
    service.publish("d1", jsonl(unique_rows()))
    service.work()
    clock.advance(61)
    service.work()
    (kind, payload), = facts(service)
    assert kind == "dataset.rejected.v1"
    assert "there is no pipeline 'intents', and none was applied within 60 s" in payload["reasons"][0]


def test_stale_holder_tells_nothing(service: Ingest) -> None:
    service.apply_pipeline()
    service.publish("d1", jsonl(unique_rows()))
    claimed = claim_for_a_moment(service)
    with transaction(service.runtime.engine) as session:
        interrupt(session, Dataset, "d1")
    Reconciler(service.runtime)(*claimed)
    assert facts(service) == []
    assert row(service, "d1").state == "pending"
    service.work()
    assert [kind for kind, _ in facts(service)] == ["dataset.prepared.v1"]


def test_stopping_gives_the_dataset_back(service: Ingest) -> None:
    service.apply_pipeline()
    service.publish("d1", jsonl(unique_rows()))
    claimed = claim_for_a_moment(service)
    with pytest.raises(TemporaryError, match="the service is stopping"):
        Reconciler(service.runtime, stopped=lambda: True)(*claimed)
    assert facts(service) == []
    assert work_files(service) == []
    service.work()
    assert row(service, "d1").state == "prepared"


def test_what_a_killed_holder_left_is_removed(service: Ingest) -> None:
    left = service.runtime.settings.work_dir / "d1" / "7"
    left.mkdir(parents=True)
    (left / "source").write_text("half")
    service.apply_pipeline()
    service.publish("d1", jsonl(unique_rows()))
    service.work()
    assert row(service, "d1").state == "prepared"
    assert work_files(service) == []


def test_s3_that_does_not_answer_rejects_nothing(service: Ingest) -> None:
    service.apply_pipeline()
    away = DatasetPublished(dataset_id="d1", pipeline=PIPELINE, uri="s3://no-such-bucket/x.jsonl")
    deliver(service.runtime.engine, handlers, fact(away), clock=service.runtime.clock)
    service.work()
    stored = row(service, "d1")
    assert stored.state == "pending"
    assert stored.message.startswith("trying again: download s3://no-such-bucket/x.jsonl")
    assert facts(service) == []
