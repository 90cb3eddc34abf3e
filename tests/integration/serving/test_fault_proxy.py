"""The proxy that gives vLLM a fault hook: everything else passes untouched, streams piece by piece."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.gateway_process import running_model_server, server_log
from tests.support.serving_processes import ServingProcess, running
from tests.support.wait import eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_model_server("tiny", "a@1") as url:
        yield url


@pytest.fixture(scope="module")
def proxy(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    log = tmp_path_factory.mktemp("proxy") / "proxy.log"
    with running("services.serving.fault_proxy", log, ready="/log", ENGINE_URL=server) as process:
        yield process


def body(model: str, order: str, *, stream: bool = False) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": order}], "stream": stream}


def test_answers_and_refusals_pass_as_they_are(proxy: ServingProcess, server: str) -> None:
    for order in ("say a b", "status 429"):
        through = proxy.client.post("/v1/chat/completions", json=body("tiny", order), headers={"x-request-id": "r7"})
        direct = httpx.post(f"{server}/v1/chat/completions", json=body("tiny", order), trust_env=False)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)
        assert through.headers["content-type"] == direct.headers["content-type"]
        assert through.headers.get("retry-after") == direct.headers.get("retry-after")
    assert server_log(server)["requests"][0]["headers"]["x-request-id"] == "r7"


def test_a_stream_comes_piece_by_piece_and_ends_with_its_client(proxy: ServingProcess, server: str) -> None:
    cancelled = server_log(server)["cancelled"]
    with proxy.client.stream("POST", "/v1/chat/completions", json=body("tiny", "stall a b", stream=True)) as answer:
        lines = answer.iter_lines()
        words = [line for line in (next(lines) for _ in range(6)) if line]
        assert '"a"' in words[1]
    eventually(lambda: server_log(server)["cancelled"] == cancelled + 1, what="the end of the stream behind the proxy")


def test_a_fault_hits_its_share_of_one_model_s_requests_and_no_other(proxy: ServingProcess) -> None:
    def statuses(model: str) -> list[int]:
        return [proxy.client.post("/v1/chat/completions", json=body(model, "say a")).status_code for _ in range(12)]

    fault = {"model": "a@1", "error_rate": 0.5, "seed": 1}
    assert proxy.client.post("/v1/test/faults", json=fault).status_code == 200
    assert 2 <= statuses("a@1").count(500) <= 10
    assert statuses("tiny") == [200] * 12
    assert proxy.client.post("/v1/test/faults", json={"model": "a@1"}).status_code == 200
    assert statuses("a@1") == [200] * 12


def test_a_server_that_is_not_there_is_502(tmp_path: Path) -> None:
    with running(
        "services.serving.fault_proxy", tmp_path / "log", ready="/v1/test/faults", ENGINE_URL="http://127.0.0.1:1"
    ) as proxy:
        answer = proxy.client.post("/v1/chat/completions", json=body("tiny", "say a"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, 502)
