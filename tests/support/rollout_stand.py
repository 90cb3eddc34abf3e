"""The whole rollout controller on a test stand: its database, handlers, loop and Prometheus client, and a gateway that
splits traffic as the newest route.updated says. Time is virtual; only the HTTP between client and server is real.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import select

import services.rollout
from services.rollout.handlers import handlers
from services.rollout.models import CommandRow, Decision, Rollout, Route
from services.rollout.prometheus import Prometheus
from services.rollout.reconcile import Reconciler
from services.rollout.routes import targets_of
from shared.clock import VirtualClock
from shared.db import reading, transaction
from shared.events import (
    AdapterFailed,
    AdapterLoaded,
    Event,
    MetUnits,
    ModelRef,
    ModelRegistered,
    Payload,
    PipelineApplied,
    ReplicaAlive,
    ReplicaReady,
    RouteTarget,
    UnitsMet,
)
from shared.gateway_metrics import DURATION, REQUESTS, SHADOW, UNIT_EVENTS
from shared.leases import interrupt
from shared.pipeline import PipelineSpec
from shared.served_names import BASE, control_of
from tests.support.delivery import START, deliver, fact, said
from tests.support.facts import artifact, dataset_ref
from tests.support.prometheus import SpeakingPrometheus, speak_prometheus

MIGRATIONS = Path(services.rollout.__file__).parent / "migrations"
REPLICAS = ("gpu-0", "gpu-1")
BASE_DIGEST = "sha256:" + "b" * 64
ROLLOUT: dict[str, Any] = {
    "steps": [{"weight": 20, "minDuration": "10s", "minRequests": 10},
              {"weight": 50, "minDuration": "10s", "minRequests": 10}],
    "interval": "5s",
    "guardrails": [{"metric": "errors", "tolerableRate": 0.1, "hardLimit": None}],
    "loadDeadline": "2m",
}


def pipeline_applied(
    version: int = 1, base_model: str = "tiny", capture: dict[str, Any] | None = None, **rollout: Any
) -> PipelineApplied:
    spec = PipelineSpec.model_validate(
        {"baseModel": base_model, "capture": capture, "rollout": {**ROLLOUT, **rollout}}
    )
    return PipelineApplied(pipeline="intents", version=version, digest=artifact("specs", version).digest, spec=spec)


def model_registered(number: int = 1, base_model: str = "tiny", digest: str = BASE_DIGEST) -> ModelRegistered:
    model = ModelRef(model_version=f"intents@{number}", base_model=base_model, artifact=artifact("adapters", number),
                     dataset=dataset_ref(number))
    return ModelRegistered(model=model, pipeline="intents", pipeline_version=1, run_id=f"run-{number}",
                           evaluation_id=f"evaluation-{number}", base_model_digest=digest)


def replica_ready(replica: str) -> ReplicaReady:
    return ReplicaReady(replica=replica, endpoint=f"http://{replica}:8000", base_model="tiny")


def replica_alive(replica: str) -> ReplicaAlive:
    return ReplicaAlive(replica=replica, endpoint=f"http://{replica}:8000", base_model="tiny")


def adapter_loaded(replica: str, number: int = 1) -> AdapterLoaded:
    return AdapterLoaded(replica=replica, endpoint=f"http://{replica}:8000", base_model="tiny",
                         model_version=f"intents@{number}", digest=artifact("adapters", number).digest)


def control_loaded(replica: str, number: int = 1) -> AdapterLoaded:
    """The stable version `number` under its second name."""
    loaded = adapter_loaded(replica, number)
    return loaded.model_copy(update={"model_version": control_of(loaded.model_version)})


def adapter_failed(replica: str, number: int = 1, *, permanent: bool) -> AdapterFailed:
    return AdapterFailed(replica=replica, endpoint=f"http://{replica}:8000", base_model="tiny",
                         model_version=f"intents@{number}", digest=artifact("adapters", number).digest,
                         reason="rank 64 is over 16", permanent=permanent)


def label(target: RouteTarget) -> str:
    """How the gateways' metrics call it."""
    return target.model_version or (control_of(BASE) if target.role == "control" else BASE)


class Stand:
    """One controller against one database. Several stands may share an engine, a clock and a Prometheus."""

    def __init__(self, engine: Engine, prometheus: SpeakingPrometheus, clock: VirtualClock, owner: str = "one") -> None:
        self.engine, self.prometheus, self.clock = engine, prometheus, clock
        self.client = Prometheus(prometheus.url, timeout=2.0, stale_after=15)
        self.reconciler = Reconciler(engine, self.client, clock)
        self.loop = self.reconciler.loop(owner=owner)
        self.counters: dict[str, list[int]] = {}
        self.copies: dict[str, list[int]] = {}
        self.bad_share = 0.0
        self._events = self._units = 0

    def hear(self, *payloads: Payload) -> list[Event[Any]]:
        """Deliver facts that become true now."""
        events = []
        for payload in payloads:
            self._events += 1
            events.append(fact(payload, sequence=self._events, time=self.clock.now()))
        deliver(self.engine, handlers, *events, clock=self.clock)
        return events

    def begin(self, number: int = 1, **rollout: Any) -> None:
        """A pipeline, two replicas, and a registered version that waits for them."""
        self.hear(pipeline_applied(**rollout), *map(replica_ready, REPLICAS), model_registered(number))

    def load(self, number: int = 1) -> None:
        self.hear(*(adapter_loaded(replica, number) for replica in REPLICAS))

    def serve(self, requests: int) -> None:
        """The gateway answers requests by the route's weights; a share of the candidate's fail."""
        for target in targets_of(self.row()):
            ok_error = self.counters.setdefault(label(target), [0, 0])
            mine = requests * target.weight // 10_000
            failed = round(mine * self.bad_share) if target.role == "candidate" else 0
            ok_error[0] += mine - failed
            ok_error[1] += failed
            self._met(label(target), "errors", failed)
            if target.shadow_share:
                copied = self.copies.setdefault(label(target), [0, 0])
                many = round(requests * target.shadow_share)
                failed = round(many * self.bad_share) if target.role == "candidate" else 0
                copied[0] += many - failed
                copied[1] += failed
                self._met(label(target), "pair_errors", failed)
        self.publish()

    def _met(self, version: str, event: str, units: int) -> None:
        """Each request is a unit of its own, of whom the gateway tells if it failed."""
        if units == 0:
            return
        marks = [f"{self._units + number:016x}" for number in range(units)]
        self._units += units
        self.hear(UnitsMet(route="intents", salt=self.row().salt, met=[
            MetUnits(model_version=version, event=event, times=1, units=marks)
        ]))

    def publish(self) -> None:
        series: dict[str, list[tuple[dict[str, str], str, float]]] = {
            REQUESTS: [], f"{DURATION}_bucket": [], UNIT_EVENTS: [], SHADOW: [],
        }
        for version, (ok, error) in self.counters.items():
            labels = {"job": "gateway", "instance": "gw:1", "route": "intents", "model_version": version}
            series[REQUESTS] += [({**labels, "outcome": "ok"}, str(ok), 0.0),
                                 ({**labels, "outcome": "error"}, str(error), 0.0)]
            series[f"{DURATION}_bucket"] += [({**labels, "le": le}, str(ok), 0.0) for le in ("0.5", "1.0", "+Inf")]
            series[UNIT_EVENTS].append(({**labels, "event": "unnamed"}, str(ok + error), 0.0))
        for version, (ok, error) in self.copies.items():
            labels = {"job": "gateway", "instance": "gw:1", "route": "intents", "model_version": version}
            cells = {"ok": ok, "error": error, "timeout": 0, "rejected": 0, "dropped": 4}
            series[SHADOW] += [({**labels, "outcome": cell}, str(count), 0.0) for cell, count in cells.items()]
        self.prometheus.series = series

    def look(self) -> None:
        """Every look that is due now."""
        for _ in range(20):
            if not self.loop.step():
                return
        raise AssertionError("a rollout is due again and again")

    def run(self, seconds: float, *, requests: int = 20) -> None:
        """Let time pass, a second at a time, with `requests` in each."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.serve(requests)
            self.look()

    def route(self) -> dict[str, Any]:
        """What was last said about the route."""
        return [data for type_, data in said(self.engine) if type_ == "route.updated.v1"][-1]

    def weights(self) -> list[dict[str, int]]:
        """The weights of every route.updated, in order."""
        return [
            {label(RouteTarget.model_validate(target)): target["weight"] for target in data["targets"]}
            for type_, data in said(self.engine) if type_ == "route.updated.v1"
        ]

    def told(self, type_: str) -> list[dict[str, Any]]:
        return [data for name, data in said(self.engine) if name == type_]

    def phase(self, rollout: str = "intents-r1") -> str:
        with reading(self.engine) as session:
            row = session.get(Rollout, rollout)
            assert row is not None
            return row.state

    def decisions(self, rollout: str = "intents-r1") -> list[Decision]:
        with reading(self.engine) as session:
            query = select(Decision).where(Decision.rollout_id == rollout).order_by(Decision.id)  # type: ignore[arg-type]
            return list(session.exec(query))

    def ask(self, verb: str, rollout: str = "intents-r1", *, full: bool = False) -> None:
        """A person asks for something."""
        with transaction(self.engine) as session:
            session.add(CommandRow(
                rollout_id=rollout, verb=verb, full=full, reason="", asked_at=self.clock.now()
            ))
            interrupt(session, Rollout, rollout)

    def row(self) -> Route:
        with reading(self.engine) as session:
            row = session.get(Route, "intents")
            assert row is not None
            return row


@contextmanager
def stand(engine: Engine) -> Iterator[Stand]:
    """A controller on its own Prometheus and clock."""
    with speak_prometheus() as prometheus:
        made = Stand(engine, prometheus, VirtualClock(START))
        yield made
        made.client.close()
