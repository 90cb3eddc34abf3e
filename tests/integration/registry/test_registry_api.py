"""The registry's HTTP API over a real port, on SQLite and PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from services.registry.api import build_router
from services.registry.handlers import handlers
from services.registry.settings import RegistrySettings
from tests.support import facts
from tests.support.apps import app_of
from tests.support.delivery import deliver, fact, said
from tests.support.http import served

pytestmark = pytest.mark.integration


@pytest.fixture
def api(engine: Engine) -> Iterator[httpx.Client]:
    app = app_of(RegistrySettings(), build_router, engine)
    with served(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        yield client


def apply(api: httpx.Client, text: str) -> httpx.Response:
    return api.post("/v1/pipelines", content=text, headers={"content-type": "application/yaml"})


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_a_new_pipeline_is_created_once(api: httpx.Client, engine: Engine) -> None:
    text = facts.PIPELINE.replace("intents", "fresh")
    first, second = apply(api, text), apply(api, text + "# only a comment\n")
    assert (first.status_code, first.json()["version"], first.json()["changed"]) == (201, 1, True)
    assert (second.status_code, second.json()) == (200, {**first.json(), "changed": False})
    assert [data["pipeline"] for type_, data in said(engine) if type_ == "pipeline.applied.v1"] == ["intents", "fresh"]


def test_a_changed_meaning_is_a_new_version(api: httpx.Client, engine: Engine) -> None:
    changed = apply(api, facts.PIPELINE.replace("tiny}", "tiny, training: {epochs: 2}}"))
    assert (changed.status_code, changed.json()["version"], changed.json()["changed"]) == (200, 2, True)
    back = apply(api, facts.PIPELINE)
    assert back.json()["version"] == 3
    assert [(d["version"], d["spec"]["training"]["epochs"]) for _, d in said(engine)] == [(1, 1.0), (2, 2.0), (3, 1.0)]
    assert api.get("/v1/pipelines/intents").json()["digest"] == back.json()["digest"]
    assert api.get("/v1/pipelines/intents?version=2").json()["spec"]["training"]["epochs"] == 2.0


def test_a_runs_checklist_is_what_was_told_of_it(api: httpx.Client, engine: Engine) -> None:
    assert api.get("/v1/runs/run-1/checklist").status_code == 404
    deliver(engine, handlers, fact(facts.started()))
    early = {item["check"]: item["state"] for item in api.get("/v1/runs/run-1/checklist").json()["checks"]}
    assert early["the loss stayed finite"] == early["it was tested on rows that it never saw"] == "not_run"
    deliver(engine, handlers, fact(facts.published()), fact(facts.prepared(), sequence=2),
            fact(facts.completed(), sequence=3), fact(facts.evaluated()), fact(facts.promoted("intents@1")))
    answer = api.get("/v1/runs/run-1/checklist").json()
    assert (answer["run_id"], answer["state"]) == ("run-1", "completed")
    found = {item["check"]: (item["state"], item["why"]) for item in answer["checks"]}
    assert found["there are enough rows"][0] == "failed"
    assert found["it is better than the bare base"] == ("passed", "exact_match 0.9, the bare base 0")
    assert found["it is a version in the registry"] == ("passed", "it is intents@1")
    assert "is promoted" in found["there is a way back"][1]


def test_labels_change_without_a_version(api: httpx.Client) -> None:
    answer = apply(api, facts.PIPELINE.replace("team: support", "team: sales"))
    assert (answer.json()["version"], answer.json()["changed"]) == (1, False)
    assert api.get("/v1/pipelines").json()["items"][0]["labels"] == {"team": "sales"}


@pytest.mark.parametrize(("text", "message"), [
    ("a: [", "pipeline: not valid YAML at line 1, column 5"),
    ("just text", "pipeline: expected a mapping"),
    (facts.PIPELINE.replace("baseModel", "basemodel"), "spec.baseModel: Field required; spec.basemodel: unknown key"),
    (facts.PIPELINE.replace("name: intents", "name: Intents!"), "pipeline: metadata.name: String should match pattern"),
])
def test_bad_yaml_is_refused_with_its_place(api: httpx.Client, engine: Engine, text: str, message: str) -> None:
    status, said_ = error(apply(api, text))
    assert status == 422
    assert message in said_
    assert len(said(engine)) == 1


def test_a_body_that_is_no_text_or_far_too_long_is_refused(api: httpx.Client) -> None:
    assert error(api.post("/v1/pipelines", content=b"name: \xff\xfe")) == (
        422, "the body is not UTF-8: byte 6 cannot be read")
    status, message = error(api.post("/v1/pipelines", content=b"x" * 1_000_001))
    assert status == 422
    assert "larger than 1000000 bytes" in message


def test_two_pipelines_cannot_share_a_route(api: httpx.Client) -> None:
    thief = facts.PIPELINE.replace("name: intents", "name: other").replace("tiny}", "tiny, rollout: {route: intents}}")
    status, message = error(apply(api, thief))
    assert status == 409
    assert "pipeline 'other': route 'intents' belongs to pipeline 'intents'; choose another" in message
    assert api.get("/v1/pipelines/other").status_code == 404


def test_the_same_new_pipeline_applied_at_once_is_one_version(api: httpx.Client, engine: Engine) -> None:
    text = facts.PIPELINE.replace("intents", "raced")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: apply(api, text), range(6)))
    assert {answer.json()["version"] for answer in answers} == {1}
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert sum(data["pipeline"] == "raced" for _, data in said(engine)) == 1


def test_different_specs_applied_at_once_are_versions_without_gaps(api: httpx.Client) -> None:
    texts = [facts.PIPELINE.replace("tiny}", f"tiny, training: {{seed: {seed}}}}}") for seed in range(100, 106)]
    with ThreadPoolExecutor(6) as pool:
        versions = sorted(answer.json()["version"] for answer in pool.map(lambda text: apply(api, text), texts))
    assert versions == [2, 3, 4, 5, 6, 7]


def test_lists_come_in_pages_newest_first(api: httpx.Client, engine: Engine) -> None:
    deliver(engine, handlers, *(fact(facts.published(number)) for number in range(1, 8)))
    seen: list[str] = []
    after: dict[str, str] = {}
    for _ in range(4):
        page = api.get("/v1/datasets", params={"limit": "3", **after}).json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == [f"data-{number}" for number in range(7, 0, -1)]


@pytest.mark.parametrize("after", ["nonsense", "YQ==", "MjAyNi0wMS0wMXx4"])
def test_a_wrong_cursor_is_refused(api: httpx.Client, after: str) -> None:
    status, message = error(api.get("/v1/runs", params={"after": after}))
    assert status == 422
    assert "is not a cursor" in message


def test_filters(api: httpx.Client, engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.published(1)), fact(facts.prepared(2)), fact(facts.started(1)),
            fact(facts.completed(2)), fact(facts.evaluated(1)), fact(facts.evaluated(2, passed=False)))

    def ids(path: str) -> list[str]:
        items: list[dict[str, Any]] = api.get(path).json()["items"]
        return [item.get("id") or item["model_version"] for item in items]

    assert ids("/v1/datasets?state=prepared") == ["data-2"]
    assert ids("/v1/datasets?pipeline=other") == []
    assert ids("/v1/runs?state=running&pipeline=intents") == ["run-1"]
    assert ids(f"/v1/runs?dataset_digest={facts.artifact('datasets', 2).digest}") == ["run-2"]
    assert ids("/v1/evaluations?run_id=run-2") == ["eval-2"]
    assert ids("/v1/models?stage=candidate&evaluation_id=eval-1") == ["intents@1"]
    assert api.get("/v1/models?stage=nonsense").status_code == 422
    assert api.get("/v1/models?limit=0").status_code == 422


@pytest.mark.parametrize(("path", "message"), [
    ("/v1/pipelines/x", "there is no pipeline 'x'; `tuneloop apply` makes one"),
    ("/v1/pipelines/intents?version=9", "pipeline 'intents' has no version 9; the newest is 1"),
    ("/v1/datasets/x", "there is no dataset 'x'"),
    ("/v1/runs/x", "there is no run 'x'"),
    ("/v1/evaluations/x", "there is no evaluation 'x'"),
    ("/v1/models/x@1", "there is no model version 'x@1'"),
    ("/v1/models/x@1/lineage", "there is no model version 'x@1'"),
])
def test_what_is_not_there_is_404_with_its_name(api: httpx.Client, path: str, message: str) -> None:
    assert error(api.get(path)) == (404, message)


def test_lineage_goes_from_the_weights_to_the_source(api: httpx.Client, engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.published()), fact(facts.prepared(), sequence=2), fact(facts.started()),
            fact(facts.completed(), sequence=2), fact(facts.evaluated()), fact(facts.promoted("intents@1")))
    answer = api.get("/v1/models/intents@1/lineage").json()
    assert answer["model"]["stage"] == "production"
    assert answer["model"]["adapter_digest"] == facts.artifact("adapters", 1).digest
    assert answer["evaluation"]["measurements"][0]["metrics"] == {"exact_match": 0.9}
    assert (answer["run"]["id"], answer["run"]["base_model_digest"]) == ("run-1", facts.BASE_DIGEST)
    assert answer["pipeline"]["digest"] == api.get("/v1/pipelines/intents").json()["digest"]
    assert answer["dataset"]["artifact_digest"] == answer["run"]["dataset_digest"]
    assert answer["dataset"]["source_uri"] == "s3://tuneloop/raw/data-1/data.jsonl"
    assert answer["dataset"]["source_sha256"] == "sha256:" + "c" * 64
    assert answer["rollout"]["state"] == "promoted"
    assert api.get("/v1/pipelines").json()["items"][0]["production"] == "intents@1"


def test_lineage_says_what_is_not_known_yet(api: httpx.Client, engine: Engine) -> None:
    deliver(engine, handlers, fact(facts.evaluated()))
    answer = api.get("/v1/models/intents@1/lineage").json()
    assert [name for name in answer if answer[name] is None] == ["dataset", "run", "rollout"]


def test_the_openapi_document_types_every_answer(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        if path.startswith("/v1/") and "inbox" not in path:
            for method in methods.values():
                assert "$ref" in method["responses"]["200"]["content"]["application/json"]["schema"], path
    assert "application/yaml" in document["paths"]["/v1/pipelines"]["post"]["requestBody"]["content"]
