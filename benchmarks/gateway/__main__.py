"""What the gateway costs: ``python -m benchmarks.gateway [ROUNDS]``.

The same load goes to a stub model server directly and through the gateway, in turn within each round, so that a noisy
machine hurts both; medians over the rounds. CPU time per request hardly depends on the neighbours at all. Prints one
JSON document at the end. About 10 seconds a round.
"""

import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import uvloop

from benchmarks.gateway.load import load, request
from tests.support.gateway_process import GatewayProcess, running_gateway, write_table
from tests.support.ports import free_port
from tests.support.routes import loaded, route, target
from tests.support.wait import eventually

SECONDS = 1.0
CELLS = [(stream, connections) for stream in (False, True) for connections in (1, 64)]


@dataclass(frozen=True)
class Sample:
    """One cell of one round."""

    p50_ms: float
    per_second: float
    cpu_ms: float


Results = dict[tuple[str, bool, int], list[Sample]]


def measure(stub: int, gateway: GatewayProcess, rounds: int) -> list[dict[str, float | str]]:
    """Medians of each cell."""
    results: Results = {}
    ports = {"direct": (stub, "m@1"), "gateway": (int(gateway.url.rsplit(":", 1)[1]), "m")}
    for number in range(1, rounds + 1):
        for stream, connections in CELLS:
            for name, (port, model) in ports.items():
                before = process_metric(gateway, "cpu_seconds_total")
                message = request(model, stream=stream)
                found = uvloop.run(load(port, message, connections=connections, seconds=SECONDS))
                cpu = process_metric(gateway, "cpu_seconds_total") - before
                sample = Sample(statistics.median(found) * 1000, len(found) / SECONDS, cpu * 1000 / len(found))
                results.setdefault((name, stream, connections), []).append(sample)
        print(f"round {number} of {rounds}", file=sys.stderr)
    return [row(results, stream, connections) for stream, connections in CELLS]


def process_metric(gateway: GatewayProcess, name: str) -> float:
    """A value of the gateway's process."""
    return gateway.metric(f"process_{name}", prefix="") or 0.0


def row(results: Results, stream: bool, connections: int) -> dict[str, float | str]:
    """One line of the result."""
    direct, through = (results[name, stream, connections] for name in ("direct", "gateway"))
    added = statistics.median(b.p50_ms - a.p50_ms for a, b in zip(direct, through, strict=True))
    return {
        "answer": "20 events" if stream else "json",
        "connections": connections,
        "direct_p50_ms": round(statistics.median(sample.p50_ms for sample in direct), 3),
        "gateway_p50_ms": round(statistics.median(sample.p50_ms for sample in through), 3),
        "added_p50_ms": round(added, 3),
        "direct_per_second": round(statistics.median(sample.per_second for sample in direct)),
        "gateway_per_second": round(statistics.median(sample.per_second for sample in through)),
        "gateway_cpu_ms_per_request": round(statistics.median(sample.cpu_ms for sample in through), 3),
    }


def main() -> None:
    """Start everything, measure, print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{port}"
        write_table(Path(folder), route("m", target("m@1", "stable", 10_000)), loaded("stub", url, "m@1"))
        stub = Popen([sys.executable, "-m", "benchmarks.gateway.load", str(port)])
        try:
            with running_gateway(Path(folder)) as gateway:
                eventually(lambda: gateway.chat("m", "warm").status_code == 200)
                cells = measure(port, gateway, rounds)
                memory = process_metric(gateway, "resident_memory_bytes")
        finally:
            stub.terminate()
            stub.wait(10)
    print(json.dumps({"cpus": os.cpu_count(), "load_average": os.getloadavg()[0], "rounds": rounds,
                      "gateway_rss_mb": round(memory / 1e6), "cells": cells}, indent=1))


if __name__ == "__main__":
    main()
