"""A real gateway before real model servers: what passes, what is refused, and what is counted."""

import json
from typing import Any

import httpx
import pytest

from services.gateway.split import fingerprint, pick, position
from tests.integration.gateway.conftest import READ_TIMEOUT, Stack
from tests.support.gateway_process import server_log
from tests.support.wait import eventually

pytestmark = pytest.mark.integration


def direct(url: str, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(url + path, json=body, trust_env=False)


def events_of(text: str) -> list[str]:
    return [block.removeprefix("data: ") for block in text.split("\n\n") if block]


class Outcomes:
    """Requests by outcome since this object was made."""

    def __init__(self, stack: Stack, route: str = "plain") -> None:
        self._stack, self._route = stack, route
        self._before = self._now()

    def since(self) -> dict[str, float]:
        return {outcome: count - self._before[outcome] for outcome, count in self._now().items()}

    def _now(self) -> dict[str, float]:
        found = self._stack.gateway.requests(self._route, f"{self._route}@1")
        return {outcome: count or 0.0 for outcome, count in found.items()}


ONE_ERROR = {"ok": 0, "error": 1, "rejected": 0}


def test_an_answer_passes_untouched_from_the_adapter(stack: Stack) -> None:
    headers = {"x-request-id": "abc", "authorization": "Bearer secret"}
    answer = stack.gateway.chat("plain", "say hello you", headers=headers)
    body = {"model": "plain@1", "messages": [{"role": "user", "content": "say hello you"}]}
    assert answer.status_code == 200
    assert answer.content == direct(stack.one, "/v1/chat/completions", body).content
    assert answer.headers["x-tuneloop-model-version"] == "plain@1"
    assert answer.headers["x-tuneloop-request-id"] == "abc"
    assert "x-internal" not in answer.headers
    asked = [r for r in server_log(stack.one)["requests"] if r["headers"].get("x-request-id") == "abc"]
    assert [r["body"] for r in asked] == [body]
    assert "authorization" not in asked[0]["headers"], "clients' keys are not the model servers' business"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_passes_untouched(stack: Stack, path: str) -> None:
    messages = [{"role": "user", "content": "say a b c"}]
    prompt = {"prompt": "say a b c"} if path == "/v1/completions" else {"messages": messages}
    body = {"model": "plain", "stream": True, "stream_options": {"include_usage": True}, **prompt}
    answer = stack.gateway.client.post(path, json=body)
    assert answer.content == direct(stack.one, path, {**body, "model": "plain@1"}).content
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-tuneloop-model-version"] == "plain@1"
    assert events_of(answer.text)[-1] == "[DONE]"


def test_tokens_come_one_by_one(stack: Stack) -> None:
    """The gateway does not collect a stream before it passes it on."""
    body = {"model": "plain", "stream": True, "messages": [{"role": "user", "content": "stall now"}]}
    with stack.gateway.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        seen = ""
        for text in answer.iter_text():
            seen += text
            if '"now"' in seen:
                break
    assert '"now"' in seen


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_model_servers_work(stack: Stack, stream: bool) -> None:
    cancelled = server_log(stack.one)["cancelled"]
    outcomes = Outcomes(stack)
    messages = [{"role": "user", "content": "stall" if stream else "hang"}]
    body = {"model": "plain", "stream": stream, "messages": messages}
    patience = httpx.Timeout(30, read=READ_TIMEOUT / 3)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(stack.gateway.url + "/v1/chat/completions", json=body, timeout=patience, trust_env=False)
    eventually(lambda: server_log(stack.one)["cancelled"] == cancelled + 1)
    eventually(lambda: outcomes.since() == {"ok": 0, "error": 0, "rejected": 1})


@pytest.mark.parametrize(
    ("order", "code"),
    [("break a b", "upstream_failed"), ("torn a b", "upstream_failed"), ("cut a b", "upstream_failed"),
     ("stall a b", "upstream_timeout")],
)
def test_a_stream_never_ends_silently(stack: Stack, order: str, code: str) -> None:
    outcomes = Outcomes(stack)
    answer = stack.gateway.chat("plain", order, stream=True)
    events = events_of(answer.text)
    assert answer.status_code == 200
    assert "[DONE]" not in events
    documents = [json.loads(event) for event in events]
    assert [document["choices"][0]["delta"]["content"] for document in documents[:-1]] == ["", "a", "b"]
    assert documents[-1]["error"]["code"] == code
    assert outcomes.since() == ONE_ERROR


def test_an_error_that_the_model_server_reports_in_its_stream_counts(stack: Stack) -> None:
    outcomes = Outcomes(stack)
    events = events_of(stack.gateway.chat("plain", "report a", stream=True).text)
    assert json.loads(events[-2])["error"]["message"] == "out of memory"
    assert events[-1] == "[DONE]"
    assert outcomes.since() == ONE_ERROR


@pytest.mark.parametrize(
    ("order", "status", "code"), [("break", 502, "upstream_failed"), ("hang", 504, "upstream_timeout")]
)
def test_a_broken_answer_becomes_a_whole_error(stack: Stack, order: str, status: int, code: str) -> None:
    outcomes = Outcomes(stack)
    answer = stack.gateway.chat("plain", order)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-tuneloop-model-version"] == "plain@1"
    assert outcomes.since() == ONE_ERROR


@pytest.mark.parametrize(("status", "outcome"), [(400, "rejected"), (422, "rejected"), (429, "error"), (500, "error")])
def test_errors_of_the_model_server_pass_untouched(stack: Stack, status: int, outcome: str) -> None:
    outcomes = Outcomes(stack)
    for stream in (False, True):
        answer = stack.gateway.chat("plain", f"status {status}", stream=stream)
        assert (answer.status_code, answer.json()["error"]["message"]) == (status, "as ordered")
        assert answer.headers["retry-after"] == "7"
    assert outcomes.since() == {"ok": 0, "error": 0, "rejected": 0, outcome: 2}


def test_a_redirect_of_a_model_server_goes_nowhere(stack: Stack) -> None:
    assert stack.gateway.chat("plain", "status 302").status_code == 502


def test_an_unknown_model_is_404_and_names_the_routes(stack: Stack) -> None:
    before = stack.gateway.metric("unrouted_total", code="model_not_found") or 0
    for name in ("nope", "intents@1", "tiny", "../plain"):
        answer = stack.gateway.chat(name, "say a")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert "down, half, intents, lost, moved, nowhere, plain" in answer.json()["error"]["message"]
    assert stack.gateway.metric("unrouted_total", code="model_not_found") == before + 4


def test_bad_bodies_are_refused_and_the_connection_lives_on(stack: Stack) -> None:
    client = stack.gateway.client
    bad = client.post("/v1/chat/completions", content=b'{"model": ')
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_json")
    assert "line 1" in bad.json()["error"]["message"]
    long = client.post("/v1/completions", json={"model": "plain", "prompt": "x" * 30_000})
    assert (long.status_code, long.json()["error"]["code"]) == (413, "request_too_large")
    chunked = client.post("/v1/completions", content=iter([b"x" * 15_000, b"y" * 15_000]))
    assert chunked.status_code == 413
    assert stack.gateway.chat("plain", "say still here").status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(stack: Stack) -> None:
    def trickle() -> Any:
        yield b'{"model": "plain",'
        eventually(lambda: stack.gateway.metric("unrouted_total", code="request_timeout"))
        yield b"}"

    with httpx.Client(base_url=stack.gateway.url, trust_env=False) as client:
        assert client.post("/v1/completions", content=trickle()).status_code == 408


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/load_lora_adapter", 404), ("POST", "/v1/unload_lora_adapter", 404), ("GET", "/log", 404),
     ("POST", "/v1/embeddings", 404), ("GET", "/v1/chat/completions", 405),
     ("POST", "/v1/chat/completions/../load_lora_adapter", 404)],
)
def test_nothing_else_reaches_a_model_server(stack: Stack, method: str, path: str, status: int) -> None:
    asked = len(server_log(stack.one)["requests"])
    answer = stack.gateway.client.request(method, path, json={"model": "plain", "prompt": "say a"})
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert len(server_log(stack.one)["requests"]) == asked


def test_another_replica_is_asked_when_one_is_down(stack: Stack) -> None:
    answers = [stack.gateway.chat("half", "say a") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert "skipped for a while" in stack.gateway.log()


def test_another_replica_is_asked_when_one_lost_the_model(stack: Stack) -> None:
    assert {stack.gateway.chat("moved", "say a").status_code for _ in range(4)} == {200}


@pytest.mark.parametrize(
    ("route", "code"), [("down", "upstream_unreachable"), ("lost", "model_not_loaded"), ("nowhere", "no_replica")]
)
@pytest.mark.parametrize("stream", [True, False])
def test_no_replica_is_503_and_worth_a_retry(stack: Stack, route: str, code: str, stream: bool) -> None:
    outcomes = Outcomes(stack, route)
    answer = stack.gateway.chat(route, "say a", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
    assert int(answer.headers["retry-after"]) >= 1
    assert outcomes.since() == ONE_ERROR


def test_a_unit_stays_with_its_version_however_it_is_named(stack: Stack) -> None:
    versions: dict[str, set[str]] = {}
    labels = {"candidate": "intents@1", "stable": "base"}
    expected: dict[str, set[str]] = {}
    for number in range(150):
        unit = f"sticky-{number}"
        expected[unit] = {labels[pick(position(fingerprint("stack", unit)), candidate=3_000)]}
        for extra in (
            {"headers": {"x-tuneloop-unit": unit, "authorization": "Bearer other"}, "user": "other"},
            {"user": unit, "headers": {"authorization": "Bearer other"}},
            {"headers": {"authorization": f"Bearer {unit}"}},
        ):
            answer = stack.gateway.chat("intents", "say a", **extra)
            versions.setdefault(unit, set()).add(answer.headers["x-tuneloop-model-version"])
    assert versions == expected
    assert {version for found in versions.values() for version in found} == {"base", "intents@1"}


def test_the_routes_say_what_is_served(stack: Stack) -> None:
    items = {item["route"]: item for item in stack.gateway.client.get("/v1/routes").json()["items"]}
    intents = items["intents"]
    assert (intents["revision"], intents["base_model"]) == (4, "tiny")
    targets = {target["model_version"]: target for target in intents["targets"]}
    replica = [{"replica": "one", "endpoint": stack.one}]
    assert targets["intents@1"] == {"model_version": "intents@1", "role": "candidate", "weight": 3_000,
                                    "effective_weight": 3_000, "replicas": replica}
    assert (targets["base"]["effective_weight"], targets["base"]["replicas"]) == (7_000, replica)
    assert items["nowhere"]["targets"][0]["replicas"] == []
    models = stack.gateway.client.get("/v1/models").json()
    assert models["object"] == "list"
    assert [model["id"] for model in models["data"]] == ["down", "half", "intents", "lost", "moved", "nowhere", "plain"]
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in models["data"])
