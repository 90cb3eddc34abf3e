"""The upload API over a real port, into a real S3."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import Engine

from services.data_ingest.handlers import handlers
from shared.clock import SystemClock, VirtualClock
from shared.events import DatasetPublished
from shared.s3 import sha256_of
from shared.settings import S3Settings
from tests.support.datasets import jsonl, rows
from tests.support.delivery import deliver, fact, said, unhandled
from tests.support.http import served
from tests.support.ingest import Ingest, ingest
from tests.support.wait import eventually

pytestmark = pytest.mark.integration
MAX_BYTES = 20_000_000


@pytest.fixture
def live(engine: Engine, s3_settings: S3Settings, tmp_path: Path) -> Iterator[Ingest]:
    with ingest(engine, s3_settings, tmp_path / "work", SystemClock(), pipeline_wait_seconds=0.5,
                max_upload_bytes=MAX_BYTES) as made:
        yield made


@pytest.fixture
def api(live: Ingest) -> Iterator[httpx.Client]:
    with served(live.app) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        yield client


def post(api: httpx.Client, content: bytes | Iterator[bytes], **params: str) -> httpx.Response:
    return api.post("/v1/datasets", content=content, params={"pipeline": "intents", **params})


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def raw_objects(live: Ingest) -> list[str]:
    return live.store.list_prefixes("raw/")


def test_upload_is_stored_published_and_prepared(api: httpx.Client, live: Ingest, tmp_path: Path) -> None:
    live.apply_pipeline()
    data = jsonl(rows(300))
    answer = post(api, data, name="monday.jsonl")
    assert answer.status_code == 202
    body = answer.json()
    (tmp_path / "data").write_bytes(data)
    assert body["sha256"] == sha256_of(tmp_path / "data")
    assert body["bytes"] == len(data)
    assert body["uri"].endswith(f"/raw/{body['dataset_id']}/data.jsonl")
    assert live.store.get_bytes(body["uri"]) == data
    pending = api.get(f"/v1/datasets/{body['dataset_id']}").json()
    assert (pending["state"], pending["name"], pending["report"]) == ("pending", "monday.jsonl", None)
    live.work()
    done = api.get(f"/v1/datasets/{body['dataset_id']}").json()
    assert done["state"] == "prepared"
    assert done["report"]["rows_in"] == sum(done["rows"].values()) == 300
    assert [kind for kind, _ in said(live.runtime.engine)] == ["dataset.published.v1", "dataset.prepared.v1"]
    # Our own event comes back from Kafka and changes nothing.
    published = DatasetPublished.model_validate(said(live.runtime.engine)[0][1])
    deliver(live.runtime.engine, handlers, fact(published))
    assert unhandled(live.runtime.engine) == {}
    assert api.get("/v1/datasets").json()["items"][0] == done


def test_large_upload_without_a_length(api: httpx.Client, live: Ingest) -> None:
    live.apply_pipeline()
    chunk = jsonl(rows(5000))
    count = MAX_BYTES // len(chunk)
    answer = post(api, (chunk for _ in range(count)))
    assert answer.status_code == 202
    assert answer.json()["bytes"] == count * len(chunk)
    assert live.store.size(answer.json()["uri"]) == count * len(chunk)


def test_unknown_pipeline(api: httpx.Client, live: Ingest) -> None:
    before = raw_objects(live)
    status, message = error(post(api, jsonl(rows(30_000))))
    assert status == 404
    assert message == "there is no pipeline 'intents' (waited 0.5 s for it); apply it first"
    assert raw_objects(live) == before


def test_pipeline_that_was_applied_just_now(engine: Engine, s3_settings: S3Settings, tmp_path: Path) -> None:
    class PipelineComesMeanwhile(VirtualClock):
        def wait(self, stop: threading.Event, seconds: float) -> bool:
            patient.apply_pipeline()
            return super().wait(stop, seconds)

    with (
        ingest(engine, s3_settings, tmp_path / "work", PipelineComesMeanwhile()) as patient,
        served(patient.app) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as api,
    ):
        assert post(api, jsonl(rows(100))).status_code == 202


@pytest.mark.parametrize(
    ("content", "params", "words"),
    [
        (b"", {}, "the upload is empty (0 bytes)"),
        (b"a,b\n1,2\n", {"format": "csv"}, "unknown format 'csv'; supported: jsonl"),
        (b"{}", {"name": "n" * 201}, "the name has 201 characters; at most 200"),
        (b"x" * (MAX_BYTES + 1), {}, f"the upload has {MAX_BYTES + 1} bytes, more than the allowed {MAX_BYTES}"),
        ([b"x" * 1_000_000] * 21, {}, f"the upload is longer than the allowed {MAX_BYTES} bytes"),
    ],
    ids=["empty", "format", "name", "length", "no-length"],
)
def test_refused_uploads_leave_nothing(
    api: httpx.Client, live: Ingest, content: bytes | list[bytes], params: dict[str, str], words: str
) -> None:
    live.apply_pipeline()
    before = raw_objects(live)
    status, message = error(post(api, iter(content) if isinstance(content, list) else content, **params))
    assert status == 422
    assert words in message
    assert raw_objects(live) == before
    assert said(live.runtime.engine) == []
    assert api.get("/v1/datasets").json() == {"items": []}


def test_upload_that_breaks_off_leaves_nothing(api: httpx.Client, live: Ingest) -> None:
    live.apply_pipeline()
    before = raw_objects(live)
    address = urlsplit(str(api.base_url))
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(b"POST /v1/datasets?pipeline=intents HTTP/1.1\r\nHost: x\r\nContent-Length: 12000000\r\n\r\n")
        client.sendall(b"x" * 10_000_000)
        eventually(lambda: uploads_under_way(live) == 1, what="the first part in S3")
    eventually(lambda: uploads_under_way(live) == 0, what="the end of the multipart upload")
    assert raw_objects(live) == before
    assert said(live.runtime.engine) == []
    assert post(api, jsonl(rows(100))).status_code == 202


def uploads_under_way(live: Ingest) -> int:
    found = live.store._client.list_multipart_uploads(Bucket=live.store.bucket, Prefix="raw/")
    return len(found.get("Uploads", []))


def test_lists_are_filtered_and_limited(api: httpx.Client, live: Ingest) -> None:
    live.apply_pipeline()
    ids = [post(api, jsonl(rows(30)), name=str(i)).json()["dataset_id"] for i in range(3)]
    items = api.get("/v1/datasets", params={"limit": 2}).json()["items"]
    assert [item["dataset_id"] for item in items] == [ids[2], ids[1]]
    assert len(api.get("/v1/datasets", params={"state": "pending", "pipeline": "intents"}).json()["items"]) == 3
    assert api.get("/v1/datasets", params={"state": "prepared"}).json()["items"] == []
    assert error(api.get("/v1/datasets/nope")) == (404, "there is no dataset 'nope'")


def test_s3_down_is_told_as_such(engine: Engine, tmp_path: Path) -> None:
    nobody = S3Settings(s3_endpoint="http://127.0.0.1:9", s3_access_key="a", s3_secret_key="b")
    with (
        ingest(engine, nobody, tmp_path, SystemClock()) as made, served(made.app) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        made.apply_pipeline()
        status, message = error(post(client, jsonl(rows(10))))
        assert status == 503
        assert "S3 at http://127.0.0.1:9 did not answer" in message
        assert said(engine) == []
