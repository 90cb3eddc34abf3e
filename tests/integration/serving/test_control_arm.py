"""A rollout with a control on real components: controller, agent, engine and gateway, with real adapters from S3.

The facts go from hand to hand instead of through Kafka, and the controller's clock is virtual; whatever is served and
counted is real.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.table import RouteTable, apply
from services.gateway.unit_teller import Met, grouped
from services.rollout.models import Base
from services.serving.handlers import handlers
from shared.events import ArtifactRef, ModelRegistered, Payload, RouteUpdated, UnitsMet, payload_types
from shared.s3 import ArtifactStore
from tests.support import gateway_stand, routes
from tests.support.agents import Adapters, Agent
from tests.support.db import sqlite_engine
from tests.support.delivery import deliver, fact, said
from tests.support.rollout_stand import Stand, model_registered, pipeline_applied, stand
from tests.support.serving_processes import ServingProcess

pytestmark = pytest.mark.integration

SHORT = {"minDuration": "1s", "minRequests": 10}
POLICY: dict[str, Any] = {
    "control": True, "steps": [{"weight": 20, **SHORT}, {"weight": 40, **SHORT}],
    "guardrails": [{"metric": "errors", "tolerableRate": 0.4, "hardLimit": None}],
}
USERS = [f"user-{number}" for number in range(120)]


class Loop:
    """A controller, an agent with its engine, and a gateway, each told what the others say."""

    def __init__(self, controller: Stand, agent: Agent, gateway: gateway_stand.Stand) -> None:
        self.controller, self.agent, self.gateway = controller, agent, gateway
        self.table = RouteTable()
        self.facts = self.told = self.heard = 0
        self.met: deque[tuple[str, str, Met, int]] = deque()
        gateway.call(lambda: gateway.gateway.metrics.unit_events.tell(lambda *each: self.met.append(each)))
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=60, trust_env=False)

    def turn(self, times: int = 1) -> None:
        """A second passes, the gateway is scraped, the controller looks, and everybody hears of it."""
        for _ in range(times):
            self.controller.clock.advance(5)
            self.scrape()
            self.hear_of_users()
            self.controller.look()
            for data in self.controller.told("route.updated.v1")[self.told :]:
                self.told += 1
                route = RouteUpdated.model_validate(data)
                deliver(self.agent.engine, handlers, fact(route, sequence=self.told))
                self.tell_gateway(route)
            self.agent.look(3)
            for type_, data in said(self.agent.engine)[self.heard :]:
                self.heard += 1
                payload = payload_types()[type_].model_validate(data)
                self.controller.hear(payload)
                self.tell_gateway(payload)

    def tell_gateway(self, payload: Payload) -> None:
        self.facts += 1
        self.table = apply(self.table, routes.fact(payload, second=self.facts, sequence=self.facts))
        self.gateway.call(lambda: self.gateway.gateway.use(self.table))

    def scrape(self) -> None:
        """What the gateway exposes, as Prometheus would have it."""
        series: dict[str, list[tuple[dict[str, str], str, float]]] = defaultdict(list)
        for family in self.gateway.gateway.metrics.registry.collect():
            for sample in family.samples:
                labels = {"job": "gateway", "instance": "gw:1", **sample.labels}
                series[sample.name].append((labels, str(sample.value), 0.0))
        self.controller.prometheus.series = dict(series)

    def hear_of_users(self) -> None:
        """Whom the gateway served for the first time, as it tells the controller."""
        by: dict[tuple[str, str], list[tuple[Met, int]]] = defaultdict(list)
        while self.met:
            route, salt, met, unit = self.met.popleft()
            by[route, salt].append((met, unit))
        self.controller.hear(*(UnitsMet(route=route, salt=salt, met=grouped(units))
                               for (route, salt), units in by.items()))

    def ask(self) -> dict[str, str]:
        """Every user asks once; who answered each of them."""
        found = {}
        for user in USERS:
            answer = self.client.post("/v1/completions", json={
                "model": "intents", "prompt": "hi", "user": user, "max_tokens": 1, "temperature": 0,
            })
            assert answer.status_code == 200, answer.text
            found[user] = answer.headers["x-tuneloop-model-version"]
        return found


def registered(number: int, ref: ArtifactRef, digest: str) -> ModelRegistered:
    made = model_registered(number, digest=digest)
    return made.model_copy(update={"model": made.model.model_copy(update={"artifact": ref})})


@pytest.fixture
def loop(engine_from_s3: ServingProcess, make_agent: Callable[..., Agent]) -> Iterator[Loop]:
    with (
        sqlite_engine(Base.metadata) as engine, stand(engine) as controller,
        gateway_stand.running_stand(lambda _: []) as gateway,
    ):
        made = Loop(controller, make_agent(engine_from_s3.url), gateway)
        yield made
        made.client.close()
    for name in engine_from_s3.listed():
        engine_from_s3.unload(name)


@pytest.fixture
def made(store: ArtifactStore, tiny_model: Path, tmp_path: Path, base_digest: str) -> Adapters:
    return Adapters(store, tiny_model, tmp_path / "made", base_digest)


def test_stable_is_served_under_a_second_name_as_often_as_the_candidate(
    loop: Loop, engine_from_s3: ServingProcess, made: Adapters, base_digest: str
) -> None:
    loop.controller.hear(pipeline_applied(**POLICY), registered(1, made.put(), base_digest))
    loop.turn(3)
    loop.controller.ask("promote", full=True)
    loop.turn(2)
    assert loop.controller.phase() == "promoted"

    loop.controller.hear(registered(2, made.put(), base_digest))
    loop.turn(3)
    assert set(engine_from_s3.listed()) == {"intents@1", "intents@2", "intents@1-control"}
    texts = {name: engine_from_s3.say(name, "hello") for name in engine_from_s3.listed()}
    assert texts["intents@1-control"] == texts["intents@1"] != texts["intents@2"]

    first = loop.ask()
    counts = Counter(first.values())
    assert all(counts[arm] >= 12 for arm in ("intents@2", "intents@1-control")), counts
    assert loop.gateway.value("requests_total", route="intents", model_version="intents@1-control", outcome="ok") == (
        counts["intents@1-control"]
    )
    loop.turn(2)
    advances = [item for item in loop.controller.decisions("intents-r2") if item.action == "advance"]
    assert advances[-1].weight == 4000
    evidence = advances[-1].evidence["errors"]
    assert (evidence["compared_with"], evidence["stable_total"], evidence["candidate_total"]) == (
        "control", counts["intents@1-control"], counts["intents@2"],
    )

    second = loop.ask()
    moved = {(first[user], second[user]) for user in USERS if first[user] != second[user]}
    assert moved == {("intents@1", "intents@2"), ("intents@1", "intents@1-control")}, "nobody goes back"
    loop.turn(4)
    assert loop.controller.phase("intents-r2") == "promoted"
    assert set(loop.ask().values()) == {"intents@2"}
    loop.turn(2)
    assert set(engine_from_s3.listed()) == {"intents@2"}
