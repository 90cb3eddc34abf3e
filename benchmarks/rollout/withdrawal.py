"""From the scrape that shows harm to weight 0 at the last gateway: ``python -m benchmarks.rollout.withdrawal``.

Everything is real and a process of its own: a broker, two gateways with steady traffic, a Prometheus that scrapes them,
the controller with its database, and a model server on which every candidate fails. In each round every route gets a
candidate; the hard limit (half of 20 requests) rolls it back. All other rules are put out of reach, so that the first
scrape that shows harm can be told from Prometheus' raw samples afterwards, without the controller.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.rollout.traffic import Traffic, traffic
from shared.events import AdapterLoaded, ModelRef, ModelRegistered, PipelineApplied, ReplicaReady
from shared.gateway_metrics import REQUESTS
from shared.messaging.topics import create_topics
from shared.pipeline import PipelineSpec
from tests.support.broker import start_tansu
from tests.support.facts import artifact, dataset_ref
from tests.support.gateway_process import running_gateway
from tests.support.ports import free_port
from tests.support.prometheus import start_prometheus
from tests.support.serving_processes import running
from tests.support.topics import publish
from tests.support.wait import eventually

GATEWAYS = 2
LIMIT_REQUESTS, LIMIT = 20, 0.5
REQUESTS_PER_ROUTE = 12.0
ROUND_SECONDS = 180.0


@dataclass(frozen=True)
class Ended:
    """One rollback; Unix times.

    Attributes:
        shown: the first scrape after which the counters were over the limit.
        sampled: the newest scrape that the controller's decision rests on.
        decided, confirmed: as the controller says.
        asked: when the last request was sent that the candidate answered.
    """

    shown: float
    sampled: float
    decided: float
    confirmed: float
    asked: float

    def parts(self) -> dict[str, float]:
        """Seconds, in the order in which they pass."""
        return {
            "from the first scrape that shows it to the one looked at": self.sampled - self.shown,
            "from that to the decision": self.decided - self.sampled,
            "from the decision to weight 0 at the last gateway": self.confirmed - self.decided,
            "in all": self.confirmed - self.shown,
        }


@dataclass(frozen=True)
class Stand:
    """Where everything is."""

    bootstrap: str
    prometheus: str
    controller: httpx.Client
    gateways: Sequence[str]
    model_server: str


@contextmanager
def stand(every: float, folder: Path) -> Iterator[Stand]:
    """All processes; Prometheus scrapes, and the controller looks, once in `every` seconds."""
    with ExitStack() as stack:
        bootstrap = stack.enter_context(start_tansu())
        create_topics(bootstrap)
        gateways = [stack.enter_context(running_gateway(folder / f"gateway-{number}", KAFKA_BOOTSTRAP=bootstrap)).url
                    for number in range(GATEWAYS)]
        targets = [url.removeprefix("http://") for url in gateways]
        prometheus = stack.enter_context(start_prometheus(targets, scrape=f"{every:g}s"))
        controller = stack.enter_context(running(
            "services.rollout", folder / "rollout.log", KAFKA_BOOTSTRAP=bootstrap, PROMETHEUS_URL=prometheus,
            DATABASE_URL=f"sqlite:///{folder}/rollout.db", PROMETHEUS_STALE_SECONDS=3 * every,
        ))
        yield Stand(bootstrap, prometheus, controller.client, gateways, stack.enter_context(model_server()))


@contextmanager
def model_server() -> Iterator[str]:
    """One on which every candidate fails; its URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.rollout.faulty", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(url), what="the model server's start")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def begin(to: Stand, routes: Sequence[str], every: float) -> None:
    """A route each, that all gateways serve."""
    spec = PipelineSpec.model_validate({"baseModel": "tiny", "rollout": {
        "steps": [{"weight": 50, "minDuration": "1h"}], "interval": f"{every:g}s", "alpha": 1e-300,
        "guardrails": [{"metric": "errors", "hardLimit": LIMIT, "hardLimitRequests": LIMIT_REQUESTS}],
    }})
    applied = [PipelineApplied(pipeline=name, version=1, digest=artifact("specs", 1).digest, spec=spec)
               for name in routes]
    publish(to.bootstrap, ReplicaReady(replica="gpu-0", endpoint=to.model_server, base_model="tiny"), *applied)
    for url in to.gateways:
        eventually(partial(serves, url, len(routes)), timeout=60, what="the routes at the gateways")


def serves(gateway: str, routes: int) -> bool:
    """Whether a gateway has so many routes."""
    return len(httpx.get(f"{gateway}/v1/models", trust_env=False).json()["data"]) == routes


def candidate(to: Stand, route: str, number: int) -> None:
    """A registered and loaded version."""
    model = ModelRef(model_version=f"{route}@{number}", base_model="tiny", artifact=artifact("adapters", number),
                     dataset=dataset_ref(number))
    publish(
        to.bootstrap,
        ModelRegistered(model=model, pipeline=route, pipeline_version=1, run_id=f"run-{number}",
                        evaluation_id=f"evaluation-{number}", base_model_digest="sha256:" + "b" * 64),
        AdapterLoaded(replica="gpu-0", endpoint=to.model_server, base_model="tiny", model_version=model.model_version,
                      digest=model.artifact.digest),
    )


def ended(to: Stand, route: str, number: int, sent: Traffic) -> Ended:
    """Wait for a rollback and for the gateways' word."""
    found: dict[str, Any] = {}

    def confirmed() -> bool:
        answer = to.controller.get(f"/v1/rollouts/{route}-r{number}")
        found.update(answer.json() if answer.status_code == 200 else {})
        return bool(found.get("withdrawal") and found["withdrawal"]["state"] == "confirmed")

    eventually(confirmed, timeout=ROUND_SECONDS, interval=0.5, what=f"the rollback of {route}@{number}")
    withdrawal = found["withdrawal"]
    assert withdrawal["gateways"] == len(to.gateways), withdrawal
    sampled, decided, at = (datetime.fromisoformat(withdrawal[key]).timestamp()
                            for key in ("sampled_at", "decided_at", "confirmed_at"))
    return Ended(first_shown(to, route, number), sampled, decided, at, sent.last[f"{route}@{number}"])


def first_shown(to: Stand, route: str, number: int) -> float:
    """The first scrape after which the gateways' counters, taken together, were over the hard limit."""
    query = f'{REQUESTS}{{route="{route}",model_version="{route}@{number}",outcome=~"ok|error"}}[15m]'
    answer = httpx.post(f"{to.prometheus}/api/v1/query", data={"query": query}, trust_env=False).json()
    samples = sorted(
        (at, series["metric"]["instance"], series["metric"]["outcome"], float(value))
        for series in answer["data"]["result"] for at, value in series["values"]
    )
    newest: dict[tuple[str, str], float] = {}
    for at, instance, outcome, value in samples:
        newest[instance, outcome] = value
        bad = sum(value for (_, outcome), value in newest.items() if outcome == "error")
        total = sum(newest.values())
        if total >= LIMIT_REQUESTS and bad / total >= LIMIT:
            return float(at)
    raise AssertionError(f"no scrape shows harm by {route}@{number}")


def measure(every: float, routes: Sequence[str], rounds: int) -> list[Ended]:
    """All rollbacks of all rounds."""
    results = []
    shift = random.Random(1)  # noqa: S311 - so that looks and scrapes meet in all ways
    with tempfile.TemporaryDirectory() as folder, stand(every, Path(folder)) as to:
        begin(to, routes, every)
        with traffic(to.gateways, routes, REQUESTS_PER_ROUTE * len(routes)) as sent:
            for number in range(1, rounds + 1):
                for route in routes:
                    candidate(to, route, number)
                    time.sleep(shift.uniform(0, 2 * every / len(routes)))
                results += [ended(to, route, number, sent) for route in routes]
                print(f"round {number} of {rounds}: {len(results)} rollbacks", flush=True)
        print(f"{sent.answers} requests were answered, {sent.failures} were not", flush=True)
    return results


def summary(every: float, results: Sequence[Ended]) -> dict[str, Any]:
    """Median, 95th percentile and maximum of each part, in seconds, and what came after weight 0."""
    parts = {}
    for name in results[0].parts():
        values = sorted(result.parts()[name] for result in results)
        parts[name] = {
            "median": round(statistics.median(values), 3),
            "p95": round(values[min(len(values) - 1, int(0.95 * len(values)))], 3), "max": round(values[-1], 3),
        }
    late = [result for result in results if result.asked > result.confirmed]
    return {"every": every, "rollbacks": len(results), "seconds": parts,
            "candidates_that_answered_requests_sent_after_weight_0": len(late)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout.withdrawal", description=__doc__)
    parser.add_argument("--every", type=float, nargs="+", default=[1.0, 10.0], metavar="SECONDS",
                        help="the interval of scrapes and of looks; each is measured by itself")
    parser.add_argument("--routes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    routes = [f"r{number:02}" for number in range(options.routes)]
    failed = False
    for every in options.every:
        load = os.getloadavg()[0]
        found = summary(every, measure(every, routes, options.rounds))
        failed = failed or found["candidates_that_answered_requests_sent_after_weight_0"] > 0
        for name, values in found["seconds"].items():
            print(f"every {every:g} s, {name}: median {values['median']:.2f} s, 95 % within {values['p95']:.2f} s, "
                  f"all within {values['max']:.2f} s")
        print(json.dumps({**found, "load_before": round(load, 2), "python": platform.python_version(),
                          "machine": f"{platform.machine()}, {os.cpu_count()} cores"}))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
