"""API keys at the door of a real gateway: who comes in, what they see, and a file that changes under way."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.cli.app import build_app
from services.gateway import key_file
from shared.api_keys import ApiKey, entry_yaml, new_key
from tests.support.gateway_process import environment
from tests.support.gateway_stand import Stand, http, read_request, running_stand
from tests.support.ports import free_port
from tests.support.routes import loaded, route, target
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

MESSAGES = {"messages": [{"role": "user", "content": "hello"}]}


async def model_server(reader: Any, writer: Any) -> None:
    while True:
        await read_request(reader)
        writer.write(http(b'{"choices": []}'))


def key(key_id: str, *routes: str, rpm: float = 6000, burst: int = 100) -> tuple[str, ApiKey]:
    return new_key(key_id, routes=frozenset(routes), requests_per_minute=rpm, burst=burst, expires=None)


def facts(urls: list[str]) -> list[Any]:
    return [route("one", target("one@1", "stable", 10_000)), route("two", target("two@1", "stable", 10_000)),
            loaded("server", urls[0], "one@1"), loaded("server", urls[0], "two@1")]


class Client:
    """A client with a key, or without one."""

    def __init__(self, stand: Stand, secret: str = "") -> None:
        self._url = f"http://127.0.0.1:{stand.port}"
        self._headers = {"authorization": f"Bearer {secret}"} if secret else {}

    def ask(self, model: str) -> httpx.Response:
        body = {"model": model, **MESSAGES}
        return httpx.post(f"{self._url}/v1/chat/completions", json=body, headers=self._headers, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self._url}{path}", headers=self._headers, trust_env=False)


def write(path: Path, *entries: ApiKey) -> None:
    draft = path.with_name("draft")
    draft.write_text("keys:\n" + "".join(map(entry_yaml, entries)))
    draft.replace(path)


@pytest.fixture
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "_CHECK_SECONDS", 0.05)


def test_a_key_opens_its_routes_and_shows_no_others(tmp_path: Path) -> None:
    (one, first), (both, second) = key("first", "one"), key("second", "*")
    write(tmp_path / "keys", first, second)
    with running_stand(facts, model_server, api_keys_file=tmp_path / "keys") as stand:
        narrow, wide = Client(stand, one), Client(stand, both)
        assert (narrow.ask("one").status_code, wide.ask("two").status_code) == (200, 200)
        closed, missing = narrow.ask("two"), narrow.ask("nobody")
        assert (closed.status_code, closed.json()["error"]["code"]) == (404, "model_not_found")
        assert closed.text.replace("two", "nobody") == missing.text, "it does not tell what exists"
        assert [model["id"] for model in narrow.get("/v1/models").json()["data"]] == ["one"]
        assert [item["route"] for item in narrow.get("/v1/routes").json()["items"]] == ["one"]
        assert [model["id"] for model in wide.get("/v1/models").json()["data"]] == ["one", "two"]
        assert stand.value("api_key_requests_total", key="first", outcome="admitted") == 5


def test_without_a_key_there_is_only_health(tmp_path: Path) -> None:
    write(tmp_path / "keys", key("first", "*")[1])
    with running_stand(facts, model_server, api_keys_file=tmp_path / "keys") as stand:
        for client in (Client(stand), Client(stand, "sk-wrong"), Client(stand, key("first", "*")[0])):
            for answer in (client.ask("one"), client.get("/v1/models"), client.get("/v1/routes")):
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert Client(stand).get("/healthz").status_code == 200
        assert Client(stand).get("/metrics").status_code == 200
        assert stand.value("unrouted_total", code="invalid_api_key") == 3


def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    secret, entry = key("first", "*", rpm=1, burst=2)
    write(tmp_path / "keys", entry)
    with running_stand(facts, model_server, api_keys_file=tmp_path / "keys") as stand:
        client = Client(stand, secret)
        answers = [client.ask("one") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 50 <= int(answers[2].headers["retry-after"]) <= 60
        assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
        assert stand.value("api_key_requests_total", key="first", outcome="rate_limited") == 1


def test_the_example_s_users_come_in_by_a_key(tmp_path: Path) -> None:
    """`tuneloop example traffic`, against a model server whose answers are no answers: it says so."""
    secret, entry = key("first", "one")
    write(tmp_path / "keys", entry)
    with running_stand(facts, model_server, api_keys_file=tmp_path / "keys") as stand:
        words = ["example", "traffic", "one", "--rate", "1000", "--requests", "8", "--key", secret]
        done = CliRunner().invoke(build_app(), [*words, "--gateway-url", f"http://127.0.0.1:{stand.port}"])
        assert stand.value("api_key_requests_total", key="first", outcome="admitted") >= 9
    assert done.exit_code == 4
    assert "one@1: " in done.stderr
    assert 'last failure: not an answer of chat completions: {"choices": []}' in done.stderr


@pytest.mark.usefixtures("_quick_looks")
def test_a_new_file_counts_at_once_and_a_broken_one_not_at_all(tmp_path: Path) -> None:
    (old, first), (new, second) = key("first", "*"), key("second", "*")
    path = tmp_path / "keys"
    write(path, first)
    with running_stand(facts, model_server, api_keys_file=path) as stand:

        def status(secret: str) -> Callable[[], int]:
            return lambda: Client(stand, secret).ask("one").status_code

        assert (status(old)(), status(new)()) == (200, 401)
        write(path, second)
        eventually(lambda: (status(old)(), status(new)()) == (401, 200))
        path.write_text("keys: [")
        eventually(lambda: stand.value("api_keys_file_ok") == 0)
        assert status(new)() == 200
        write(path, first, second)
        eventually(lambda: stand.value("api_keys_file_ok") == 1)
        eventually(lambda: (status(old)(), status(new)()) == (200, 200))
        assert stand.value("api_keys") == 2


def test_there_is_no_start_with_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(json.dumps({"keys": [{"id": "a"}]}))
    for path, problem in ((tmp_path / "keys", "keys.0.sha256: Field required"), (tmp_path / "none", "cannot be read")):
        result = subprocess.run(
            [sys.executable, "-m", "services.gateway"], capture_output=True, text=True, timeout=60, check=False,
            env=environment(tmp_path, free_port(), API_KEYS_FILE=str(path)),
        )
        assert result.returncode == 2
        assert problem in result.stderr
        assert "TUNELOOP_API_KEYS_FILE" in result.stderr
