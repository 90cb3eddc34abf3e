"""The gateway beside others: ``python -m benchmarks.gateway [--rounds N] [--beside NAME...] [--requests N]``.

Each contender runs on one core, the stub and the load on another. The same load goes to each in turn within each round,
so that a noisy machine hurts all; medians over the rounds. Then `--requests` go through the gateway while its memory is
watched. Prints a table, the goals with their verdicts, and one JSON document.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.gateway.contenders import Contender, gateway, litellm, stub_server, vllm_router
from benchmarks.gateway.load import load

SECONDS = 1.0
CELLS = [(stream, connections) for stream in (False, True) for connections in (1, 64)]
OTHERS = {"vllm-router": vllm_router, "litellm": litellm}


@dataclass(frozen=True)
class Sample:
    """One cell of one round; times in milliseconds."""

    p50: float
    p99: float
    per_second: float
    cpu: float


Key = tuple[str, bool, int]


def measure(contender: Contender, stream: bool, connections: int) -> Sample:
    """One cell."""
    before = contender.cpu_seconds()
    found = sorted(uvloop.run(
        load(contender.port, contender.model, stream=stream, connections=connections, seconds=SECONDS)
    ))
    cpu = contender.cpu_seconds() - before
    # The last answers come after the time is up; the rate is by what one connection did on average.
    seconds = max(SECONDS, sum(found) / connections)
    return Sample(statistics.median(found) * 1000, found[int(len(found) * 0.99)] * 1000, len(found) / seconds,
                  cpu * 1000 / len(found))


def compare(contenders: list[Contender], rounds: int) -> dict[Key, Sample]:
    """Medians of each cell."""
    samples: dict[Key, list[Sample]] = {}
    for number in range(1, rounds + 1):
        for stream, connections in CELLS:
            for contender in contenders:
                samples.setdefault((contender.name, stream, connections), []).append(
                    measure(contender, stream, connections)
                )
        sys.stderr.write(f"round {number} of {rounds}, load average {os.getloadavg()[0]:.1f}\n")
    return {key: _median(found) for key, found in samples.items()}


def _median(samples: list[Sample]) -> Sample:
    return Sample(*(statistics.median(getattr(s, name) for s in samples) for name in Sample.__dataclass_fields__))


def watch_memory(contender: Contender, requests: int) -> list[float]:
    """Resident MB before, and after each tenth of the requests, of which every tenth part is streams."""
    memory = [contender.resident_mb()]
    for _ in range(10):
        uvloop.run(load(contender.port, contender.model, stream=False, connections=64, most=requests * 9 // 100))
        uvloop.run(load(contender.port, contender.model, stream=True, connections=64, most=requests // 100))
        memory.append(contender.resident_mb())
    return memory


def table(results: dict[Key, Sample], names: list[str]) -> str:
    """The results for people."""
    lines = ["| answer | connections | | requests/s | p50 ms | added p50 ms | p99 ms | CPU ms/request |",
             "|---|---|---|---|---|---|---|---|"]
    for stream, connections in CELLS:
        direct = results["direct", stream, connections].p50
        for name in names:
            s = results[name, stream, connections]
            lines.append(
                f"| {'20 events' if stream else 'JSON'} | {connections} | {name} | {s.per_second:,.0f} | {s.p50:.2f} | "
                f"{s.p50 - direct:.2f} | {s.p99:.2f} | {f'{s.cpu:.3f}' if s.cpu else ''} |"
            )
    return "\n".join(lines)


def goals(results: dict[Key, Sample], memory: list[float]) -> list[str]:
    """What was aimed at, and whether it was reached."""
    def rate(name: str, stream: bool) -> float:
        return results[name, stream, 64].per_second

    def judge(text: str, value: float, bar: float, *, at_most: bool = False) -> str:
        held = value <= bar if at_most else value >= bar
        return f"{'held' if held else 'MISSED'}: {text}: {value:,.2f}, bar {bar:,.2f}"

    verdicts = []
    if ("vllm-router", False, 64) in results:
        verdicts += [
            judge("JSON requests/s at 64", rate("tuneloop", False), rate("vllm-router", False)),
            judge("SSE requests/s at 64, 1.3 x vllm-router", rate("tuneloop", True), 1.3 * rate("vllm-router", True)),
            *(judge(f"p50 at 1 connection, {'SSE' if stream else 'JSON'}, vllm-router + 0.1 ms",
                    results["tuneloop", stream, 1].p50, results["vllm-router", stream, 1].p50 + 0.1, at_most=True)
              for stream in (False, True)),
        ]
    if ("litellm", False, 64) in results:
        verdicts += [judge(f"{'SSE' if stream else 'JSON'} requests/s at 64, 30 x LiteLLM", rate("tuneloop", stream),
                           30 * rate("litellm", stream)) for stream in (False, True)]
    # The first half fills what is bounded: buffers, connections, and the answers that feedback may be about.
    verdicts.append(judge("MB gained in the second half of the requests", memory[-1] - memory[5], 3, at_most=True))
    return verdicts


def main() -> None:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", nargs="*", choices=list(OTHERS), default=list(OTHERS))
    parser.add_argument("--requests", type=int, default=200_000, help="through which memory is watched")
    chosen = parser.parse_args()
    here, there = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {here})
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        direct = stack.enter_context(stub_server(here))
        ours = stack.enter_context(gateway(direct.port, Path(name), there))
        others = [stack.enter_context(OTHERS[other](direct.port, Path(name), there)) for other in chosen.beside]
        started = [ours, *others]
        load_before = os.getloadavg()
        results = compare([direct, *started], chosen.rounds)
        memory = watch_memory(ours, chosen.requests)
        resident = {contender.name: round(contender.resident_mb()) for contender in started}
    print(table(results, ["direct", *(contender.name for contender in started)]))
    print("\n" + "\n".join(goals(results, memory)) + "\n")
    print(json.dumps({
        "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "rounds": chosen.rounds,
        "load_average_before": load_before, "load_average_after": os.getloadavg(), "resident_mb": resident,
        "gateway_mb_over_requests": [round(value, 1) for value in memory],
    }))


if __name__ == "__main__":
    main()
