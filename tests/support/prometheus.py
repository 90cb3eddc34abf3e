"""Prometheus for tests: the real one, and a small server that speaks its JSON and can be told to misbehave."""

import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.wait import eventually


class SpeakingPrometheus:
    """Answers range selectors of instant queries with what `series` holds, as Prometheus would, or fails as told.

    Attributes:
        series: metric name to a list of (labels, value as Prometheus writes it, age in seconds).
        fault: ``(status, body)`` to answer instead; ``"hang"`` to answer nothing.
        warnings: that come with each answer.
        queries: what was asked.
    """

    def __init__(self) -> None:
        self.series: dict[str, list[tuple[dict[str, str], str, float]]] = {}
        self.fault: tuple[int, str] | str | None = None
        self.warnings: list[str] = []
        self.queries: list[str] = []
        self.url = ""
        self.ended = threading.Event()

    def answer(self, form: dict[str, list[str]]) -> tuple[int, str]:
        query, at = form["query"][0], float(form["time"][0])
        self.queries.append(query)
        if self.fault == "hang":
            self.ended.wait(30)
        if isinstance(self.fault, tuple):
            return self.fault
        match = re.fullmatch(r"(\w+)\{(.*)\}\[(\d+)ms\]", query)
        assert match, query
        wanted = re.findall(r'(\w+)(=~?)"([^"]*)"', match[2])
        result: list[dict[str, Any]] = [
            {"metric": {"__name__": match[1], **labels}, "values": [[at - age - 5, "0"], [at - age, value]]}
            for labels, value, age in self.series.get(match[1], [])
            if age * 1000 < int(match[3]) and all(_matches(labels.get(name, ""), *how) for name, *how in wanted)
        ]
        body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return 200, json.dumps(body | ({"warnings": self.warnings} if self.warnings else {}))


def _matches(label: str, operator: str, wanted: str) -> bool:
    return label == wanted if operator == "=" else re.fullmatch(wanted, label) is not None


@contextmanager
def speak_prometheus() -> Iterator[SpeakingPrometheus]:
    """Serve a `SpeakingPrometheus` while the block lasts."""
    spoken = SpeakingPrometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, body = spoken.answer(form)
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())
            except OSError:
                pass  # the client went away, as one with a timeout does

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    spoken.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield spoken
    finally:
        spoken.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def start_prometheus(
    targets: list[str], *, scrape: str = "500ms", port: int | None = None, data: Path | None = None
) -> Iterator[str]:
    """A real Prometheus that scrapes `targets` (host:port) as the job ``gateway``; its base URL.

    With `port` and `data` a second one goes on where the first ended.
    """
    binary = shutil.which("prometheus", path="/usr/bin:/usr/local/bin") or shutil.which("prometheus")
    if binary is None:
        pytest.fail("no prometheus here; apt-get install prometheus")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(json.dumps({  # JSON is YAML
            "global": {"scrape_interval": scrape, "scrape_timeout": scrape},
            "scrape_configs": [{"job_name": "gateway", "static_configs": [{"targets": targets}]}],
        }))
        port = port or free_port()
        process = subprocess.Popen(
            [binary, f"--config.file={config}", f"--storage.tsdb.path={data or Path(folder) / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: _ready(url), what="Prometheus to be ready")
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
