"""Steps with copies and approval through the whole controller: what the gateways are told, and what is counted."""

from typing import Any

import pytest

from tests.support.rollout_stand import Stand

pytestmark = pytest.mark.integration

SHORT = {"minDuration": "10s", "minRequests": 10}
POLICY: dict[str, Any] = {
    "shadow": {"percent": 50, **SHORT}, "steps": [{"weight": 20, **SHORT, "approval": True}],
}


def shadows(controller: Stand) -> list[float]:
    """The candidate's shadow share in each route.updated that had a candidate."""
    return [
        target["shadow_share"] for data in controller.told("route.updated.v1") for target in data["targets"]
        if target["role"] == "candidate"
    ]


def test_copies_then_traffic_then_a_person_then_stable(controller: Stand) -> None:
    controller.begin(**POLICY)
    controller.look()
    controller.load()
    controller.run(5)
    assert controller.route()["targets"][1] | {"adapter": None} == {
        "model_version": "intents@1", "adapter": None, "role": "candidate", "weight": 0, "shadow_share": 0.5,
    }
    controller.run(300)
    assert controller.phase() == "paused"
    assert shadows(controller) == [0.0, 0.5, 0.0]
    assert [weights.get("intents@1") for weights in controller.weights()] == [None, 0, 0, 2000]
    rules = [(item.action, item.rule) for item in controller.decisions() if item.action != "hold"]
    assert rules == [("stage", "route"), ("advance", "loaded"), ("advance", "evidence"), ("pause", "approval")]

    controller.ask("resume")
    controller.run(20)
    assert controller.phase() == "promoted"
    assert controller.route()["targets"][0]["model_version"] == "intents@1"
    assert controller.row().shadow == 0


def test_bad_copies_are_taken_away_before_anybody_saw_an_answer(controller: Stand) -> None:
    controller.begin(**POLICY)
    controller.look()
    controller.load()
    controller.bad_share = 0.4
    controller.run(60)
    assert controller.phase() == "rolled_back"
    assert {weights.get("intents@1", 0) for weights in controller.weights()} == {0}
    assert shadows(controller) == [0.0, 0.5, 0.0]
    [told] = controller.told("rollout.rolled_back.v1")
    assert (told["guardrail"], told["seconds_exposed"], told["users_exposed"]) == ("errors", None, None)
    assert told["evidence"]["candidate_bad"] > 0
