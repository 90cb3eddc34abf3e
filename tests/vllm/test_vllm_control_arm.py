"""A rollout's control arm on real vLLM: stable's weights under a second name, for as long as the rollout lasts.

The route table is what the controller's own code says; the gateway, the agent and vLLM are processes.
"""

from pathlib import Path
from typing import Any

import pytest

from services.rollout import routes
from services.rollout.models import Rollout, Route
from services.rollout.wanted import Shift, TakeRoute
from shared.events import ArtifactRef, ModelRef, RouteUpdated
from shared.pipeline import RolloutPolicy
from tests.support.agents import BASE, Adapters
from tests.support.delivery import START
from tests.support.facts import dataset_ref
from tests.support.gateway_process import GatewayProcess, running_gateway
from tests.support.serving_processes import running
from tests.support.vllm_server import VllmServer
from tests.support.wait import eventually
from tests.vllm.conftest import publish

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

STABLE, CANDIDATE, CONTROL = "checked@1", "checked@2", "checked@1-control"
QUESTION, TOKENS = "what about order number 7?", 8
USERS = [f"user-{number}" for number in range(40)]


def model(version: str, adapter: ArtifactRef) -> dict[str, Any]:
    ref = ModelRef(model_version=version, base_model=BASE, artifact=adapter, dataset=dataset_ref())
    return ref.model_dump(mode="json")


class Controller:
    """One rollout's changes of its route, said to everybody."""

    def __init__(self, broker: str, stable: ArtifactRef, candidate: ArtifactRef) -> None:
        self._broker = broker
        self.row = Route(id="checked", pipeline="checked", base_model=BASE, salt="s", stable=model(STABLE, stable),
                         updated_at=START)
        policy = RolloutPolicy.model_validate({"control": True})
        self.rollout = Rollout(
            id="checked-r2", pipeline="checked", route="checked", model_version=CANDIDATE, number=2,
            state="progressing", model=model(CANDIDATE, candidate), base_model_digest="", data={},
            policy=policy.model_dump(mode="json"),
            correlation_id="loop", causation_id="cause", created_at=START, updated_at=START,
        )

    def begin(self) -> None:
        routes.take(self.row, self.rollout, TakeRoute(control=True), START, self._say)
        routes.shift(self.row, self.rollout, Shift(weight=3_000, control=3_000), START, self._say)

    def end(self) -> None:
        """The candidate was rolled back."""
        routes.shift(self.row, self.rollout, Shift(weight=0), START, self._say)
        routes.leave(self.row, self.rollout, START, self._say)

    def clear(self) -> None:
        """Tests share the broker: nothing of this route is wanted any more."""
        self.row.stable = None
        routes.publish(self.row, START, self._say)

    def _say(self, route: RouteUpdated) -> None:
        publish(self._broker, route, sequence=route.revision)


def answers(gateway: GatewayProcess) -> dict[str, set[tuple[str, str]]]:
    """By the version that the gateway chose: whom the model server says to have answered, and what it said."""
    found: dict[str, set[tuple[str, str]]] = {}
    for user in USERS:
        answer = gateway.chat("checked", QUESTION, user=user, temperature=0, max_tokens=TOKENS)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        text = said["choices"][0]["message"]["content"]
        found.setdefault(answer.headers["x-tuneloop-model-version"], set()).add((said["model"], text))
    return found


def test_the_control_is_answered_by_stable_s_weights_under_its_own_name_and_leaves_with_the_rollout(
    vllm: VllmServer, adapters: Adapters, broker: str, agent_settings: dict[str, Any], tmp_path: Path
) -> None:
    controller = Controller(broker, adapters.put(), adapters.put())
    controller.begin()
    settings = {**agent_settings, "DRAIN_SECONDS": "1"}
    with running("services.serving", tmp_path / "agent.log", **settings):
        eventually(lambda: set(vllm.listed()) == {STABLE, CANDIDATE, CONTROL}, timeout=60, what="all three on vLLM")
        says = {name: vllm.say(name, QUESTION, max_tokens=TOKENS) for name in (STABLE, CANDIDATE)}
        assert says[STABLE] != says[CANDIDATE], "they can be told apart"
        with running_gateway(tmp_path / "gateway", KAFKA_BOOTSTRAP=broker) as gateway:
            in_effect = {"route": "checked", "model_version": CONTROL, "role": "control"}
            eventually(lambda: gateway.metric("route_weight", **in_effect) == 3_000, timeout=60, what="the split")
            assert answers(gateway) == {
                STABLE: {(STABLE, says[STABLE])}, CANDIDATE: {(CANDIDATE, says[CANDIDATE])},
                CONTROL: {(CONTROL, says[STABLE])},
            }
            controller.end()
            eventually(lambda: set(vllm.listed()) == {STABLE}, timeout=60, what="control and candidate to leave vLLM")
            now = controller.row.revision
            eventually(lambda: gateway.metric("route_revision", route="checked") == now, timeout=60, what="the end")
            assert answers(gateway) == {STABLE: {(STABLE, says[STABLE])}}
        controller.clear()
