"""A real gateway and real model servers as processes, for tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.store import TableStore
from services.gateway.table import RouteTable, apply
from shared.events import Payload
from tests.support.ports import free_port
from tests.support.routes import fact
from tests.support.wait import eventually

# Nothing listens on port 1; connecting fails at once.
NO_KAFKA = "127.0.0.1:1"


@dataclass
class GatewayProcess:
    """A running gateway. `client` is a plain HTTP client for it."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def log(self) -> str:
        return self.log_file.read_text()

    def chat(self, model: str, order: str, **extra: Any) -> httpx.Response:
        """Ask for a chat completion; headers are given as `headers=`."""
        headers = extra.pop("headers", None)
        body = {"model": model, "messages": [{"role": "user", "content": order}], **extra}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def metric(self, name: str, *, prefix: str = "tuneloop_gateway_", **labels: str) -> float | None:
        """The value of one series."""
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                if sample.name == prefix + name and sample.labels == labels:
                    return sample.value
        return None

    def requests(self, route: str, label: str) -> dict[str, float | None]:
        """Requests by outcome."""
        return {o: self.metric("requests_total", route=route, model_version=label, outcome=o)
                for o in ("ok", "error", "rejected")}

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def environment(state_dir: Path, port: int, **settings: str) -> dict[str, str]:
    """The environment of a gateway process."""
    ours = {"HTTP_PORT": str(port), "STATE_DIR": str(state_dir), "KAFKA_BOOTSTRAP": NO_KAFKA, **settings}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TUNELOOP_")}
    return {**clean, **{f"TUNELOOP_{key}": value for key, value in ours.items()}}


@contextmanager
def running_gateway(state_dir: Path, **settings: str) -> Iterator[GatewayProcess]:
    """A gateway that answers, and that is gone at the end; by default without Kafka."""
    port = free_port()
    state_dir.mkdir(parents=True, exist_ok=True)
    log_file = state_dir / f"gateway-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"], env=environment(state_dir, port, **settings), stderr=log
        )
    gateway = GatewayProcess(process, f"http://127.0.0.1:{port}", log_file)
    try:
        eventually(lambda: _healthy(gateway.client), what=f"the gateway's start ({log_file})")
        yield gateway
    finally:
        gateway.client.close()
        _end(process)


@contextmanager
def running_model_server(*models: str, certificate: Path | None = None) -> Iterator[str]:
    """A model server that serves `models`; its URL. With a certificate and its key in one file it speaks TLS."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.model_server", str(port), *models], stderr=subprocess.DEVNULL,
        env={**os.environ, **({"TEST_CERTIFICATE": str(certificate)} if certificate else {})},
    )
    url = f"http{'s' if certificate else ''}://127.0.0.1:{port}"
    try:
        eventually(lambda: _get(f"{url}/log").status_code == 200, what="the model server's start")
        yield url
    finally:
        _end(process)


def server_log(url: str) -> dict[str, Any]:
    """What a model server was asked, and how often it was cancelled."""
    answer: dict[str, Any] = _get(f"{url}/log").json()
    return answer


def write_table(state_dir: Path, *payloads: Payload) -> None:
    """Leave a route table on disk, as a gateway that had seen these facts would."""
    table = RouteTable()
    for second, payload in enumerate(payloads):
        table = apply(table, fact(payload, second=second, sequence=second + 1))
    TableStore(state_dir).save(table)


def _get(url: str) -> httpx.Response:
    try:
        return httpx.get(url, trust_env=False, timeout=5, verify=False)  # noqa: S501 - a test's own server
    except httpx.TransportError as error:
        raise OSError(str(error)) from error


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(60)
