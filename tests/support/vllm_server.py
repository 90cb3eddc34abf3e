"""A real vLLM as a process, for tests; it can be killed and started again on its port."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from services.cli.local.checks import find_vllm
from tests.support.ports import free_port
from tests.support.serving_processes import ServingProcess, end, environment, spawn, wait_ready

# Half a minute alone on two cores, and the machine that runs the tests may be slow.
START_SECONDS = 240.0


class VllmServer(ServingProcess):
    """vLLM, started as the project's launcher starts it."""

    _command: list[str]
    _env: dict[str, str]

    @classmethod
    def start(cls, log_file: Path, **settings: object) -> "VllmServer":
        """Start it and wait until it answers."""
        port = free_port()
        command = [sys.executable, "-m", "services.serving.vllm_server"]
        env = environment(HTTP_PORT=port, VLLM_PYTHON=find_vllm(), ENFORCE_EAGER="true", KV_CACHE_GIB="1", **settings)
        server = cls(spawn(command, env, log_file), port, log_file)
        server._command, server._env = command, env
        try:
            wait_ready(server, "/health", START_SECONDS)
        except BaseException:
            server.stop()
            raise
        return server

    def restart(self) -> None:
        """Start it again after its end, on the same port."""
        self.process = spawn(self._command, self._env, self.log_file)
        wait_ready(self, "/health", START_SECONDS)

    def well(self) -> bool:
        """Whether it runs and says that it can work."""
        try:
            return self.process.poll() is None and self.client.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def kill_and_wait(self) -> None:
        """SIGKILL, as the kernel does it when memory runs out. Its engine outlives it, so that is ended too."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.kill()
        for child in children:
            if child.is_running():
                child.kill()
        psutil.wait_procs(children, timeout=30)

    def stop(self) -> None:
        self.client.close()
        end(self.process)


@contextmanager
def running_vllm(log_file: Path, **settings: object) -> Iterator[VllmServer]:
    """A vLLM that answers, and that is gone at the end."""
    server = VllmServer.start(log_file, **settings)
    try:
        yield server
    finally:
        server.stop()
