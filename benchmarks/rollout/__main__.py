"""Many rollouts on one controller: ``python -m benchmarks.rollout [--rollouts 200] [--ticks 10] [--database sqlite]``.

A real Prometheus scrapes an exporter with the gateway's metrics of all routes; the real loop, with its real database,
takes one look at each rollout per tick. Prints per tick what the controller's process spent, the median, and the goal
with its verdict; Prometheus, the exporter and PostgreSQL are other processes and not counted.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func
from sqlmodel import select

import services.rollout
from services.rollout.handlers import handlers
from services.rollout.models import Decision, Rollout
from services.rollout.prometheus import Prometheus
from services.rollout.reconcile import Reconciler
from services.rollout.settings import RolloutSettings
from shared.clock import SystemClock
from shared.collector import leave_alone_what_stays
from shared.db import connect, migrate, reading
from shared.events import AdapterLoaded, ModelRef, ModelRegistered, Payload, PipelineApplied, ReplicaReady
from shared.pipeline import PipelineSpec
from shared.telemetry import configure
from tests.support.delivery import deliver, fact
from tests.support.facts import artifact, dataset_ref
from tests.support.ports import free_port
from tests.support.postgres import start_postgres
from tests.support.prometheus import start_prometheus

GOAL_CPU_SECONDS = 1.0
INTERVAL_SECONDS = 5.0
SPEC = {
    "baseModel": "tiny",
    "rollout": {
        "steps": [{"weight": 20, "minDuration": "1h"}, {"weight": 50}], "interval": f"{INTERVAL_SECONDS:g}s",
        "guardrails": [{"metric": "errors"}, {"metric": "latency", "sloSeconds": 1.0}],
    },
}


@dataclass(frozen=True)
class Tick:
    """One look at each rollout; seconds."""

    looks: int
    cpu: float
    wall: float


@contextmanager
def database(kind: str) -> Iterator[Engine]:
    """A migrated database of the controller's own, on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            engine = connect(f"sqlite:///{folder}/rollout.db")
            migrate(engine, Path(services.rollout.__file__).parent / "migrations")
            yield engine
            engine.dispose()
            return
        with start_postgres() as url:
            engine = connect(url)
            migrate(engine, Path(services.rollout.__file__).parent / "migrations")
            yield engine
            engine.dispose()


@contextmanager
def exporter(routes: int) -> Iterator[str]:
    """The metrics of `routes` routes; host:port."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("exporter.py")), str(port), str(routes)]
    process = subprocess.Popen(command)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def begin(engine: Engine, routes: int) -> None:
    """A pipeline, a route and a loaded candidate each."""
    clock = SystemClock()
    spec = PipelineSpec.model_validate(SPEC)
    payloads: list[Payload] = [ReplicaReady(replica="gpu-0", endpoint="http://gpu-0:8000", base_model="tiny")]
    for number in range(routes):
        name = f"r{number:04}"
        model = ModelRef(model_version=f"{name}@1", base_model="tiny", artifact=artifact("adapters", number),
                         dataset=dataset_ref(number))
        payloads += [
            PipelineApplied(pipeline=name, version=1, digest=artifact("specs", number).digest, spec=spec),
            ModelRegistered(model=model, pipeline=name, pipeline_version=1, run_id=f"run-{number}",
                            evaluation_id=f"evaluation-{number}", base_model_digest="sha256:" + "b" * 64),
            AdapterLoaded(replica="gpu-0", endpoint="http://gpu-0:8000", base_model="tiny", model_version=f"{name}@1",
                          digest=model.artifact.digest),
        ]
    events = [fact(payload, sequence=number, time=clock.now()) for number, payload in enumerate(payloads, 1)]
    deliver(engine, handlers, *events, clock=clock)


def measure(engine: Engine, prometheus: Prometheus, rollouts: int, ticks: int) -> list[Tick]:
    """Let the loop work; a tick begins when every rollout is due."""
    clock = SystemClock()
    loop = Reconciler(engine, prometheus, clock).loop(owner="bench")
    measured = []
    for number in range(ticks + 2):
        begun, spent = time.monotonic(), time.process_time()
        before = looked(engine)
        while loop.step():
            pass
        tick = Tick(looked(engine) - before, time.process_time() - spent, time.monotonic() - begun)
        if number >= 2:  # the first two take the routes and give the first weight
            measured.append(tick)
        print(f"tick {number}: {tick.looks} looks, {tick.cpu:.2f} s of CPU, {tick.wall:.2f} s", flush=True)
        if tick.looks < rollouts:
            raise SystemExit(f"only {tick.looks} of {rollouts} were due: the tick took longer than the interval?")
        time.sleep(max(0.0, begun + tick.wall + INTERVAL_SECONDS + 0.2 - time.monotonic()))
    return measured


def looked(engine: Engine) -> int:
    """How many looks there were; each is one claim."""
    with reading(engine) as session:
        return session.exec(select(func.sum(Rollout.lease_epoch))).one()


def counted(engine: Engine) -> tuple[int, int]:
    """Rollouts with traffic, and decisions stored: that there was something to do."""
    with reading(engine) as session:
        progressing = session.exec(
            select(func.count()).select_from(Rollout).where(Rollout.state == "progressing")
        ).one()
        return progressing, session.exec(select(func.count()).select_from(Decision)).one()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=200)
    parser.add_argument("--ticks", type=int, default=10)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryFile("w") as log, redirect_stderr(log),  # written as in production, but not shown
        database(options.database) as engine, exporter(options.rollouts) as target,
        start_prometheus([target], scrape="2s") as url,
    ):
        configure(RolloutSettings())
        begin(engine, options.rollouts)
        prometheus = Prometheus(url, timeout=10, stale_after=30)
        leave_alone_what_stays()  # as the service does before it serves
        measured = measure(engine, prometheus, options.rollouts, options.ticks)
        progressing, decisions = counted(engine)
        prometheus.close()
    # Where the machine is busy a tick takes longer than the interval, and some rollouts are due twice in it.
    ticks = [tick.cpu / tick.looks * options.rollouts for tick in measured]
    cpu = statistics.median(ticks)
    verdict = "met" if cpu < GOAL_CPU_SECONDS else "MISSED"
    print(f"{options.rollouts} rollouts on {options.database}: a tick takes {cpu:.2f} s of CPU (median of "
          f"{len(measured)}), {cpu / options.rollouts * 1000:.2f} ms a look; "
          f"goal under {GOAL_CPU_SECONDS:g} s: {verdict}")
    print(json.dumps({
        "rollouts": options.rollouts, "database": options.database, "cpu_median": round(cpu, 3),
        "cpu_max": round(max(ticks), 3),
        "wall_median": round(statistics.median(tick.wall for tick in measured), 3),
        "progressing": progressing, "decisions": decisions, "load_before": round(load, 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version(),
    }))
    return 0 if cpu < GOAL_CPU_SECONDS and progressing == options.rollouts else 1


if __name__ == "__main__":
    sys.exit(main())
