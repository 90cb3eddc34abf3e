"""The engine over real HTTP: OpenAI's API, vLLM's adapter calls, and a base model that no adapter touches."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.adapters import write_adapter
from tests.support.serving_processes import ServingProcess
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

QUESTIONS = [f"what about number {number}?" for number in range(6)]


def events(answer: httpx.Response) -> list[Any]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def gauge(engine: ServingProcess, name: str) -> float:
    for family in text_string_to_metric_families(engine.client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name:
                return sample.value
    raise LookupError(name)


def test_a_stream_says_the_same_as_a_whole_answer(engine: ServingProcess) -> None:
    whole = engine.chat("tiny", "hello").json()
    chunks = events(engine.chat("tiny", "hello", stream=True, stream_options={"include_usage": True}))
    assert whole["object"] == "chat.completion"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


def test_a_text_completion_and_its_stream(engine: ServingProcess) -> None:
    body = {"model": "tiny", "prompt": "the quick", "temperature": 0, "max_tokens": 5}
    whole = engine.client.post("/v1/completions", json=body).json()
    assert whole["usage"]["completion_tokens"] <= 5
    chunks = events(engine.client.post("/v1/completions", json={**body, "stream": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]


def test_max_tokens_is_the_limit_and_says_so(engine: ServingProcess) -> None:
    answer = engine.chat("tiny", "hello", max_completion_tokens=1).json()
    assert answer["usage"]["completion_tokens"] == 1
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")


def test_a_stop_string_ends_the_answer_before_itself(engine: ServingProcess) -> None:
    text = engine.say("tiny", "hello", max_tokens=40)
    assert len(text) > 3, "the tiny model says too little for this test"
    answer = engine.chat("tiny", "hello", max_tokens=40, stop=[text[2]]).json()
    assert answer["choices"][0]["message"]["content"] == text[: text.index(text[2])]
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_seed_makes_sampling_repeatable_whoever_shares_the_batch(engine: ServingProcess) -> None:
    def sampled(seed: int) -> str:
        return engine.say("tiny", "tell me", temperature=1.0, top_p=0.9, seed=seed)

    alone = [sampled(1), sampled(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(sampled, [1, 2])) == alone
    assert alone[0] != alone[1]


def test_adapters_answer_differently_and_leave_the_base_as_it_was(
    empty_engine: ServingProcess, adapters: dict[str, Path]
) -> None:
    engine = empty_engine
    before = [engine.say("tiny", question) for question in QUESTIONS]
    assert engine.load("a@1", adapters["one"]).text == "Success: LoRA adapter 'a@1' added successfully."
    assert engine.load("a@2", adapters["two"]).status_code == 200
    one = [engine.say("a@1", question) for question in QUESTIONS]
    two = [engine.say("a@2", question) for question in QUESTIONS]
    assert one != before
    assert two != before
    assert one != two
    assert [engine.say("tiny", question) for question in QUESTIONS] == before
    assert engine.unload("a@1").status_code == 200
    assert [engine.say("tiny", question) for question in QUESTIONS] == before
    assert [engine.say("a@2", question) for question in QUESTIONS] == two
    assert engine.unload("a@2").status_code == 200
    assert [engine.say("tiny", question) for question in QUESTIONS] == before
    # A name may come back, and then has its new weights.
    assert engine.load("a@1", adapters["two"]).status_code == 200
    assert [engine.say("a@1", question) for question in QUESTIONS] == two


def test_models_that_decode_together_do_not_mix(empty_engine: ServingProcess, adapters: dict[str, Path]) -> None:
    engine = empty_engine
    engine.load("a@1", adapters["one"])
    engine.load("a@2", adapters["two"])
    asked = [(model, question) for question in QUESTIONS[:2] for model in ("tiny", "a@1", "a@2")]
    alone = [engine.say(model, question, max_tokens=20) for model, question in asked]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(lambda ask: engine.say(*ask, max_tokens=20), asked)) == alone


def test_the_list_of_models_is_as_vllm_has_it(empty_engine: ServingProcess, adapters: dict[str, Path]) -> None:
    empty_engine.load("a@1", adapters["one"])
    base, adapter = empty_engine.client.get("/v1/models").json()["data"]
    assert (base["id"], base["parent"]) == ("tiny", None)
    assert (adapter["id"], adapter["parent"], adapter["root"]) == ("a@1", "tiny", str(adapters["one"]))


def test_refusals_of_the_adapter_calls(
    empty_engine: ServingProcess, adapters: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    engine = empty_engine
    engine.load("a@1", adapters["one"])
    dora = write_adapter(tmp_path / "dora", tiny_model, config={"use_dora": True})
    wide = write_adapter(tmp_path / "wide", tiny_model, config={"r": 16})
    torn = write_adapter(tmp_path / "torn", tiny_model)
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    for answer, status, word in [
        (engine.load("a@1", adapters["one"]), 400, "already been loaded"),
        (engine.load("tiny", adapters["one"]), 400, "already been loaded"),
        (engine.load("", adapters["one"]), 400, "must be provided"),
        (engine.load("b@1", tmp_path / "nowhere"), 404, "No adapter found"),
        (engine.load("b@1", dora), 400, "DoRA"),
        (engine.load("b@1", wide), 400, "rank 16"),
        (engine.load("b@1", torn), 400, "truncated"),
        (engine.unload("b@1"), 404, "cannot be found"),
        (engine.unload(""), 400, "needs to be provided"),
    ]:
        assert (answer.status_code, word in answer.json()["error"]["message"]) == (status, True), answer.text
        assert answer.json()["error"]["code"] == status
    assert list(engine.listed()) == ["a@1"]


def test_weights_for_other_shapes_are_refused_and_change_nothing(
    empty_engine: ServingProcess, tiny_model: Path, tmp_path: Path
) -> None:
    before = empty_engine.say("tiny", "hello")
    other = tmp_path / "model"
    other.mkdir()
    config = json.loads((tiny_model / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "hidden_size": config["hidden_size"] * 2, "head_dim": 16}))
    answer = empty_engine.load("b@1", write_adapter(tmp_path / "adapter", other))
    assert answer.status_code == 400
    assert "needs" in answer.json()["error"]["message"]
    assert empty_engine.say("tiny", "hello") == before


def test_more_adapters_than_allowed_are_refused(empty_engine: ServingProcess, adapters: dict[str, Path]) -> None:
    for number in range(3):
        assert empty_engine.load(f"a@{number + 1}", adapters["one"]).status_code == 200
    answer = empty_engine.load("a@4", adapters["one"])
    assert (answer.status_code, "3 adapters are loaded already" in answer.text) == (400, True)


@pytest.mark.parametrize(("body", "status", "param"), [
    ({"model": "nobody"}, 404, "model"),
    ({"n": 2}, 400, "n"),
    ({"tools": [{"type": "function"}]}, 400, "tools"),
    ({"max_tokens": 100_000}, 400, "max_tokens"),
    ({"messages": [{"role": "user", "content": "long " * 5000}]}, 400, "input_tokens"),
])
def test_refusals_of_requests(engine: ServingProcess, body: dict[str, Any], status: int, param: str) -> None:
    answer = engine.client.post(
        "/v1/chat/completions", json={"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **body}
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, status, param), error


def test_a_body_that_is_not_json(engine: ServingProcess) -> None:
    answer = engine.client.post("/v1/chat/completions", content=b"{nope", headers={"content-type": "application/json"})
    assert (answer.status_code, "not JSON" in answer.json()["error"]["message"]) == (400, True)


def test_a_fault_hits_its_share_of_one_model_s_requests_and_no_other(
    empty_engine: ServingProcess, adapters: dict[str, Path]
) -> None:
    engine = empty_engine
    engine.load("a@1", adapters["one"])
    fault = {"model": "a@1", "error_rate": 0.5, "seed": 1}
    codes = []
    for _ in range(2):
        assert engine.client.post("/v1/test/faults", json=fault).status_code == 200
        codes.append([engine.chat("a@1", "hi", max_tokens=1).status_code for _ in range(12)])
    assert codes[0] == codes[1], "the seed decides which requests fail"
    assert 2 <= codes[0].count(500) <= 10
    assert engine.chat("tiny", "hi", max_tokens=1).status_code == 200
    assert engine.client.post("/v1/test/faults", json={"model": "a@1"}).status_code == 200
    assert {engine.chat("a@1", "hi", max_tokens=1).status_code for _ in range(12)} == {200}


LONG = {"model": "tiny", "messages": [{"role": "user", "content": "go on"}], "temperature": 1.0, "stream": True}


def long_generation(engine: ServingProcess) -> tuple[dict[str, Any], float]:
    """A request that goes on to its limit of tokens on this machine, and how many seconds it takes."""
    for seed in range(100):
        body = {**LONG, "stream": False, "max_tokens": 400, "temperature": 2.0, "seed": seed}
        answer = engine.client.post("/v1/chat/completions", json=body)
        if answer.json()["choices"][0]["finish_reason"] == "length":
            return body, answer.elapsed.total_seconds()
    raise AssertionError("every answer came to an end of its own")


def test_a_client_that_leaves_ends_its_generation(engine: ServingProcess) -> None:
    body, seconds = long_generation(engine)
    for streams in (True, False):
        with httpx.Client(base_url=engine.url, trust_env=False, timeout=60 if streams else seconds / 4) as client:
            request = client.build_request("POST", "/v1/chat/completions", json={**body, "stream": streams})
            if streams:
                answer = client.send(request, stream=True)
                next(answer.iter_bytes())
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.send(request)
        eventually(lambda: gauge(engine, "tuneloop_engine_requests_running") == 0, what="the end of the row")


def test_a_full_queue_is_answered_at_once_with_when_to_come_back(engine: ServingProcess) -> None:
    with ThreadPoolExecutor(16) as pool:
        body = {**LONG, "stream": False, "max_tokens": 200}
        answers = list(pool.map(
            lambda seed: engine.client.post("/v1/chat/completions", json={**body, "seed": seed}), range(16)
        ))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 503}, codes
    refused = answers[codes.index(503)]
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == 503


def test_an_adapter_that_is_unloaded_finishes_what_it_began(
    empty_engine: ServingProcess, adapters: dict[str, Path]
) -> None:
    engine = empty_engine
    engine.load("a@1", adapters["one"])
    alone = engine.say("a@1", "go on", max_tokens=100)
    with engine.client.stream(
        "POST", "/v1/chat/completions",
        json={**LONG, "model": "a@1", "messages": [{"role": "user", "content": "go on"}], "temperature": 0,
              "max_tokens": 100},
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        with httpx.Client(base_url=engine.url, trust_env=False, timeout=60) as other:
            assert other.post("/v1/unload_lora_adapter", json={"lora_name": "a@1"}).status_code == 200
        rest = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in rest) == alone
    assert engine.chat("a@1", "go on").status_code == 404


def test_health(engine: ServingProcess) -> None:
    assert [engine.client.get(path).status_code for path in ("/health", "/healthz", "/readyz", "/metrics")] == [200] * 4
