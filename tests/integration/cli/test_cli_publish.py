"""`tuneloop publish` against data_ingest's real API and S3; the registry hears what the test lets it hear."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.data_ingest.handlers import handlers as ingest_handlers
from services.registry.handlers import handlers
from shared.events import DatasetPublished, PipelineApplied
from shared.pipeline import parse_pipeline
from tests.support import facts
from tests.support.delivery import deliver, fact, said
from tests.support.wait import eventually

pytestmark = pytest.mark.integration
ROWS = '{"prompt": "where is my card", "completion": "card_arrival"}\n' * 50


@pytest.fixture
def tuneloop(run: Any, registry: Any, ingest: Any) -> Any:
    Path("good.jsonl").write_text(ROWS)
    Path("pipeline.yaml").write_text(facts.PIPELINE)
    call = partial(run, TUNELOOP_REGISTRY_URL=registry.url, TUNELOOP_DATA_INGEST_URL=ingest.url)
    assert call("apply", "pipeline.yaml").exit_code == 0
    spec = parse_pipeline(facts.PIPELINE).spec
    deliver(ingest.engine, ingest_handlers,
            fact(PipelineApplied(pipeline="intents", version=1, digest=facts.BASE_DIGEST, spec=spec)))
    return call


def test_the_file_is_in_s3_and_everyone_is_told(tuneloop: Any, ingest: Any) -> None:
    result = tuneloop("publish", "good.jsonl", "--pipeline", "intents", "-o", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["bytes"] == len(ROWS)
    assert answer["sha256"] == "sha256:" + hashlib.sha256(ROWS.encode()).hexdigest()
    [(_, data)] = [item for item in said(ingest.engine) if item[0] == "dataset.published.v1"]
    assert (data["dataset_id"], data["name"], data["format"]) == (answer["dataset_id"], "good.jsonl", "jsonl")
    table = tuneloop("publish", "good.jsonl", "-p", "intents", "--name", "second try").stdout
    assert "tuneloop datasets get ds-" in table


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("good.jsonl", "-p", "nobody"), 3, "there is no pipeline 'nobody'"),
    (("empty.jsonl", "-p", "intents"), 1, "empty"),
    (("pipeline.yaml", "-p", "intents"), 1, "yaml"),
])
def test_what_is_refused(tuneloop: Any, ingest: Any, arguments: tuple[str, ...], code: int, message: str) -> None:
    Path("empty.jsonl").touch()
    result = tuneloop("publish", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [type_ for type_, _ in said(ingest.engine)] == []


def test_a_large_file_for_nobody_is_refused_with_the_reason(tuneloop: Any) -> None:
    Path("large.jsonl").write_bytes(b"x" * 40_000_000)
    result = tuneloop("publish", "large.jsonl", "-p", "nobody")
    assert (result.exit_code, "there is no pipeline 'nobody'" in result.stderr) == (3, True)


@contextmanager
def waiting(tuneloop: Any, ingest: Any) -> Iterator[tuple[DatasetPublished, Callable[[], Any]]]:
    """A `publish --wait` that runs: what it published, and a function that gives its result once it ended."""
    results: list[Any] = []
    command = ("publish", "good.jsonl", "-p", "intents", "--wait", "-o", "json")
    thread = threading.Thread(target=lambda: results.append(tuneloop(*command)))
    thread.start()

    def published() -> DatasetPublished | None:
        found = [data for type_, data in said(ingest.engine) if type_ == "dataset.published.v1"]
        return DatasetPublished.model_validate(found[-1]) if found else None

    def result() -> Any:
        thread.join(60)
        return results[0]

    yield eventually(published), result


def test_waiting_until_production(tuneloop: Any, ingest: Any, registry: Any) -> None:
    with waiting(tuneloop, ingest) as (published, result):
        prepared = facts.prepared().model_copy(update={"dataset_id": published.dataset_id})
        deliver(registry.engine, handlers, fact(published), fact(prepared, sequence=2), fact(facts.started()),
                fact(facts.completed(), sequence=2), fact(facts.evaluated()), fact(facts.promoted("intents@1")))
        ended = result()
    assert ended.exit_code == 0
    answer = json.loads(ended.stdout)
    assert (answer["dataset"]["id"], answer["model"]["stage"], answer["rollout"]["state"]) == (
        published.dataset_id, "production", "promoted")
    assert ended.stderr.splitlines()[0] == f"dataset {published.dataset_id}"
    assert ended.stderr.splitlines()[-1] == "intents@1 is in production: every guardrail is safe"


def test_waiting_for_a_dataset_that_is_rejected(tuneloop: Any, ingest: Any, registry: Any) -> None:
    with waiting(tuneloop, ingest) as (published, result):
        rejected = facts.rejected().model_copy(update={"dataset_id": published.dataset_id})
        deliver(registry.engine, handlers, fact(published), fact(rejected, sequence=2))
        ended = result()
    assert ended.exit_code == 5
    assert ended.stderr.splitlines()[-1] == "error: the dataset was rejected: line 1: not JSON; too few rows"


def test_waiting_for_a_run_that_never_started(tuneloop: Any, ingest: Any, registry: Any) -> None:
    """Its only event names no dataset, and an older version's run of the same rows is not meant."""
    deliver(registry.engine, handlers, fact(facts.started(1), correlation_id="earlier"),
            fact(facts.completed(1), sequence=2, correlation_id="earlier"))
    with waiting(tuneloop, ingest) as (published, result):
        prepared = facts.prepared(1, version=2).model_copy(update={"dataset_id": published.dataset_id})
        failed = facts.failed(2).model_copy(update={"pipeline_version": 2})
        deliver(registry.engine, handlers, fact(published, correlation_id="this"),
                fact(prepared, sequence=2, correlation_id="this"), fact(failed, correlation_id="this"))
        ended = result()
    assert ended.exit_code == 5
    assert ended.stderr.splitlines()[-1] == "error: run run-2 failed: out of memory at step 12"
