"""A real engine and a real agent as processes, for tests."""

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

from shared.settings import S3Settings
from tests.support.ports import free_port
from tests.support.wait import eventually

# The machine that runs the tests may be slow, and torch alone takes seconds to import.
START_SECONDS = 120.0


@dataclass
class ServingProcess:
    """A running engine or agent. `client` is a plain HTTP client for it."""

    process: subprocess.Popen[bytes]
    port: int
    log_file: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return self.log_file.read_text()

    def chat(self, model: str, question: str, **extra: Any) -> httpx.Response:
        """Ask greedily for a few tokens."""
        body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 12}
        return self.client.post("/v1/chat/completions", json={**body, **extra})

    def say(self, model: str, question: str, **extra: Any) -> str:
        """The answer's text."""
        answer = self.chat(model, question, **extra)
        assert answer.status_code == 200, answer.text
        text: str = answer.json()["choices"][0]["message"]["content"]
        return text

    def load(self, name: str, path: Path) -> httpx.Response:
        return self.client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)})

    def unload(self, name: str) -> httpx.Response:
        return self.client.post("/v1/unload_lora_adapter", json={"lora_name": name})

    def listed(self) -> dict[str, str]:
        """Adapters by name, with their roots."""
        models = self.client.get("/v1/models").json()["data"]
        return {model["id"]: model["root"] for model in models if model["parent"]}

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


@contextmanager
def running(
    module: str, log_file: Path, *, port: int | None = None, ready: str = "/readyz", **settings: object
) -> Iterator[ServingProcess]:
    """``python -m module`` with these settings, ready when the block starts and gone when it ends."""
    port = port or free_port()
    command = [sys.executable, "-m", module]
    env = environment(**{"HTTP_PORT": port, "DATABASE_URL": "sqlite://", **settings})
    started = ServingProcess(spawn(command, env, log_file), port, log_file)
    try:
        wait_ready(started, ready, START_SECONDS)
        yield started
    finally:
        started.client.close()
        end(started.process)


def environment(**settings: object) -> dict[str, str]:
    """This process's environment with these settings and no others of ours."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TUNELOOP_")}
    return {**clean, "OMP_NUM_THREADS": "1", **{f"TUNELOOP_{key}": str(value) for key, value in settings.items()}}


def spawn(command: list[str], env: dict[str, str], log_file: Path) -> "subprocess.Popen[bytes]":
    """A process that adds what it says to the log."""
    with log_file.open("ab") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log)


def wait_ready(started: ServingProcess, path: str, timeout: float) -> None:
    """Wait until `path` answers 200; an assertion with the end of the log where the process ends instead."""

    def ready() -> bool:
        assert started.process.poll() is None, started.log()[-3000:]
        try:
            return started.client.get(path).status_code == 200
        except httpx.HTTPError:
            return False

    eventually(ready, timeout=timeout, interval=0.2, what=f"the start of what writes {started.log_file}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL where that is not enough."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def s3_environment(settings: S3Settings) -> dict[str, Any]:
    """The S3 settings as a process's environment names them."""
    return {
        "S3_ENDPOINT": settings.s3_endpoint, "S3_BUCKET": settings.s3_bucket, "S3_ACCESS_KEY": settings.s3_access_key,
        "S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
    }
