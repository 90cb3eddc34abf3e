"""How each contender is installed, started on one core before the stub, and ended.

vllm-router and LiteLLM get a virtual environment of their own: their requirements are not ours.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.environments import install
from benchmarks.gateway.load import KEY, SECRET
from shared.api_keys import entry_yaml, new_key
from shared.events import RouteCapture
from tests.support.broker import start_tansu
from tests.support.gateway_process import environment
from tests.support.ports import free_port
from tests.support.routes import canary, loaded
from tests.support.topics import publish
from tests.support.wait import eventually

# Share of the requests that become samples in Kafka.
CAPTURED = 0.01
VLLM_ROUTER = "vllm-router==0.1.17"
LITELLM = "litellm[proxy]==1.108.7"


@dataclass(frozen=True)
class Contender:
    """Something that is asked: `process` is None for the stub itself."""

    name: str
    port: int
    model: str
    process: subprocess.Popen[bytes] | None

    def cpu_seconds(self) -> float:
        """Processor time so far, of all threads."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Memory in use."""
        if self.process is None:
            return 0.0
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def gateway(stub: int, folder: Path, core: int) -> Iterator[Contender]:
    """tuneloop's gateway with all that it does: keys, a canary, metrics, feedback's memory, samples of 1 % to Kafka."""
    state = folder / "state"
    url = f"http://127.0.0.1:{stub}"
    spec = canary("m", "m@1", "m@2", 1_000).model_copy(
        update={"capture": RouteCapture(share=CAPTURED, max_bytes=65_536, redact=True)}
    )
    entry = new_key("bench", routes=frozenset("*"), requests_per_minute=1e9, burst=10**9, expires=None,
                    random=lambda _: SECRET)[1]
    keys = folder / "keys.yaml"
    keys.write_text("keys:\n" + entry_yaml(entry))
    port = free_port()
    command = [sys.executable, "-m", "services.gateway"]
    with start_tansu() as kafka:
        publish(kafka, spec, loaded("stub", url, "m@1"), loaded("stub", url, "m@2"))
        variables = environment(state, port, KAFKA_BOOTSTRAP=kafka, API_KEYS_FILE=str(keys))
        with _running(command, core, folder / "tuneloop.log", variables) as process:
            yield _ready(Contender("tuneloop", port, "m", process))


@contextmanager
def vllm_router(stub: int, folder: Path, core: int) -> Iterator[Contender]:
    """vllm-router, round robin over its one worker."""
    port = free_port()
    command = [
        str(install("vllm-router", [VLLM_ROUTER]) / "vllm-router"), "--host", "127.0.0.1", "--port", str(port),
        "--policy", "round_robin", "--worker-urls", f"http://127.0.0.1:{stub}",
        "--prometheus-port", str(free_port()), "--log-level", "error",
    ]
    with _running(command, core, folder / "vllm-router.log", os.environ) as process:
        yield _ready(Contender("vllm-router", port, "m@1", process))


@contextmanager
def litellm(stub: int, folder: Path, core: int) -> Iterator[Contender]:
    """LiteLLM's proxy with one worker."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: m\n    litellm_params:\n      model: openai/m@1\n"
        f"      api_base: http://127.0.0.1:{stub}/v1\n      api_key: none\n"
    )
    command = [str(install("litellm", [LITELLM]) / "litellm"), "--config", str(config), "--host", "127.0.0.1",
               "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    quiet = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": KEY}
    with _running(command, core, folder / "litellm.log", quiet) as process:
        yield _ready(Contender("litellm", port, "m", process), timeout=180)


@contextmanager
def stub_server(core: int) -> Iterator[Contender]:
    """The stub itself, asked directly: the ceiling of what this machine can measure."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway.stub", str(port)]
    with _running(command, core, Path(os.devnull), os.environ):
        yield _ready(Contender("direct", port, "m@1", None))


@contextmanager
def _running(
    command: Sequence[str], core: int, log: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # a child inherits it, all its threads included
    try:
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=dict(variables))
    finally:
        os.sched_setaffinity(0, mine)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _ready(contender: Contender, *, timeout: float = 60) -> Contender:
    """Wait until it answers as it should."""
    def answers() -> bool:
        process = contender.process
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{contender.name} ended with {process.returncode}")
        body = {"model": contender.model, "messages": [{"role": "user", "content": "x"}]}
        try:
            answer = httpx.post(f"http://127.0.0.1:{contender.port}/v1/chat/completions", json=body, timeout=10,
                                headers={"authorization": f"Bearer {KEY}"}, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    eventually(answers, timeout=timeout, interval=0.2, what=f"the first answer of {contender.name}")
    return contender
