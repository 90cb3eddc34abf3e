"""`tuneloop example`: rows that its pipeline can learn from, and users that say what they saw."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.app import build_app
from services.cli.demo.data import INTENTS
from services.cli.demo.traffic import MODEL_HEADER
from shared.pipeline import parse_pipeline

EXAMPLE = Path(__file__).parents[3] / "examples" / "first-canary.yaml"


class _Gateway(BaseHTTPRequestHandler):
    """Answers some users with one version and others with the other, and one route with 503; refuses who has no key."""

    def do_GET(self) -> None:
        if self.headers["authorization"] != "Bearer k":
            return self._answer(401, {"error": {"code": "invalid_api_key", "message": "no key, or an unknown one"}})
        return self._answer(200, {"data": [{"id": "broken"}, {"id": "support-intents"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["authorization"] == "Bearer k"
        if body["model"] == "broken":
            return self._answer(503, {"error": {"code": "no_replica"}})
        return self._answer(200, {"choices": [{"message": {"content": INTENTS[0]}}]},
                            "support-intents@1" if body["user"] < "user-4" else "base")

    def _answer(self, code: int, body: Any, version: str | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-length", str(len(text)))
        if version:
            self.send_header(MODEL_HEADER, version)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def gateway() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gateway)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def tuneloop(*words: str) -> Any:
    return CliRunner().invoke(build_app(), ["example", *words])


def test_rows_are_enough_for_the_example_s_pipeline() -> None:
    rows = [json.loads(line) for line in tuneloop("rows").stdout.splitlines()]
    assert len(rows) >= parse_pipeline(EXAMPLE.read_text(), source=EXAMPLE.name).spec.dataset.min_rows
    assert {row["messages"][-1]["content"] for row in rows} == set(INTENTS)
    assert tuneloop("rows", "--kind", "shifted", "-n", "12").stdout.count("\n") == 12


def test_users_say_what_they_saw_of_each_version(gateway: str) -> None:
    done = tuneloop("traffic", "--rate", "1000", "--requests", "40", "--gateway-url", gateway,
                    "--key", "k")
    assert done.exit_code == 0, done.output
    last = done.stderr.splitlines()[-1]
    assert "base: " in last
    assert "support-intents@1: " in last
    assert "0 failed" in last
    assert "% right" in last


def test_who_gets_no_answer_is_told_why(gateway: str) -> None:
    done = tuneloop("traffic", "broken", "--requests", "1", "--gateway-url", gateway, "--key", "k")
    assert done.exit_code == 4
    assert "was answered: 503" in done.stderr
    assert "no_replica" in done.stderr


def test_who_has_no_key_is_told_so_and_asks_nothing(gateway: str) -> None:
    done = tuneloop("traffic", "--gateway-url", gateway)
    assert done.exit_code == 1
    assert "no key, or an unknown one" in done.stderr
