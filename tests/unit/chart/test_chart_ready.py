"""What `helm test` runs: it waits for every service, and says which one is not ready and why."""

import importlib.util
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType, SimpleNamespace

import pytest

from tests.support.chart import CHART


@pytest.fixture(scope="module")
def ready() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ready", CHART / "files" / "ready.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Service(BaseHTTPRequestHandler):
    """Ready at the second time of asking; or never."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        is_ready = self.path == "/late" and self.asked > 1
        self.send_response(200 if is_ready else 503)
        self.end_headers()
        self.wfile.write(b"the database does not answer")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Service.asked = 0
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_time_passes(ready: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: None))


def test_it_waits_for_who_starts(ready: ModuleType, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ready.main([f"{url}/late"], 30) == 0
    assert capsys.readouterr().out == f"ready   {url}/late\n"


def test_it_names_all_that_are_not_ready_with_the_reason(
    ready: ModuleType, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ready.main([f"{url}/never", "http://127.0.0.1:1/readyz"], 0) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"FAILED  {url}/never  503 the database does not answer"
    assert second.startswith("FAILED  http://127.0.0.1:1/readyz  ")
    assert "refused" in second
