"""vLLM killed under traffic, behind the real gateway, with the agent as a process: wrong answers are none."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.events import ArtifactRef, RouteTarget, RouteUpdated
from tests.support.agents import BASE, Adapters
from tests.support.delivery import START
from tests.support.gateway_process import GatewayProcess, running_gateway
from tests.support.serving_processes import running
from tests.support.vllm_server import VllmServer
from tests.support.wait import eventually
from tests.vllm.conftest import publish

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

QUESTIONS = [f"what about order number {number}?" for number in range(6)]
TOKENS = 8


def two_versions(first: ArtifactRef, second: ArtifactRef) -> RouteUpdated:
    targets = [
        RouteTarget(model_version="busy@1", adapter=first, role="stable", weight=5_000),
        RouteTarget(model_version="busy@2", adapter=second, role="candidate", weight=5_000),
    ]
    return RouteUpdated(route="busy", revision=1, salt="s", base_model=BASE, targets=targets, updated_at=START)


class Crowd:
    """Users who ask until the block ends; what they got, by how it compares with what the chosen version says."""

    def __init__(self, gateway: GatewayProcess, truth: dict[tuple[str, str], str]) -> None:
        self._gateway, self._truth = gateway, truth
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(3)
        self.seen: Counter[str] = Counter()

    def __enter__(self) -> "Crowd":
        self._done = [self._pool.submit(self._work, number) for number in range(3)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for work in self._done:
            work.result()

    def _work(self, number: int) -> None:
        with httpx.Client(base_url=self._gateway.url, timeout=60, trust_env=False) as client:
            asked = 0
            while not self._stop.wait(0.02):
                asked += 1
                kind = self._ask(client, QUESTIONS[asked % len(QUESTIONS)], f"user-{number}-{asked % 20}")
                with self._lock:
                    self.seen[kind] += 1

    def _ask(self, client: httpx.Client, question: str, user: str) -> str:
        answer = client.post("/v1/chat/completions", json={
            "model": "busy", "messages": [{"role": "user", "content": question}], "user": user, "temperature": 0,
            "max_tokens": TOKENS,
        })
        if answer.status_code != 200:
            return "refused"
        version = answer.headers["x-tuneloop-model-version"]
        assert answer.json()["model"] == version
        text = answer.json()["choices"][0]["message"]["content"]
        return f"right {version}" if text == self._truth[version, question] else f"wrong {version}: {text!r}"

    def waits_for(self, *kinds: str) -> None:
        """Until it has seen more of each kind than now."""
        before = Counter(self.seen)
        eventually(lambda: all(self.seen[kind] > before[kind] + 3 for kind in kinds), timeout=120, interval=0.2,
                   what=f"answers of the kinds {kinds}, seen: {dict(self.seen)}")


def test_nobody_is_answered_by_another_adapter_while_vllm_dies_and_returns(
    vllm: VllmServer, adapters: Adapters, broker: str, agent_settings: dict[str, Any], tmp_path: Path
) -> None:
    route = two_versions(adapters.put(), adapters.put())
    publish(broker, route)
    both = ("busy@1", "busy@2")
    right = tuple(f"right {name}" for name in both)
    with running("services.serving", tmp_path / "agent.log", **agent_settings):
        eventually(lambda: set(vllm.listed()) == set(both), what="both adapters on vLLM")
        truth = {(name, q): vllm.say(name, q, max_tokens=TOKENS) for name in both for q in QUESTIONS}
        assert all(truth[both[0], q] != truth[both[1], q] for q in QUESTIONS), "they can be told apart"
        with running_gateway(tmp_path / "gateway", KAFKA_BOOTSTRAP=broker) as gateway:
            eventually(lambda: gateway.chat("busy", "hi", max_tokens=1).status_code == 200,
                       what="the gateway's first answer")
            with Crowd(gateway, truth) as crowd:
                crowd.waits_for(*right)
                vllm.kill_and_wait()
                crowd.waits_for("refused")
                vllm.restart()
                crowd.waits_for(*right)
                eventually(lambda: set(vllm.listed()) == set(both), what="both adapters back")
            assert set(crowd.seen) <= {*right, "refused"}, crowd.seen
    # Tests share the broker: nothing of this route is wanted any more.
    alone = RouteTarget(model_version=None, adapter=None, role="stable", weight=10_000)
    publish(broker, route.model_copy(update={"revision": 2, "targets": [alone]}), sequence=2)
