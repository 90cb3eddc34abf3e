"""The control arm through the whole controller: what gateways and agents are told, what is waited for and shown."""

from typing import Any

import pytest

from services.rollout.models import Rollout
from services.rollout.views import rollout_view
from shared.db import reading
from shared.gateway_metrics import REQUESTS
from tests.support.rollout_stand import REPLICAS, Stand, adapter_failed, control_loaded, model_registered

pytestmark = pytest.mark.integration

POLICY: dict[str, Any] = {"control": True, "steps": [
    {"weight": 20, "minDuration": "10s", "minRequests": 10}, {"weight": 40, "minDuration": "10s", "minRequests": 10},
]}


def second(controller: Stand) -> None:
    """The first version is stable, the second one waits to be loaded."""
    controller.begin(**POLICY)
    controller.load()
    controller.run(60)
    assert controller.phase() == "promoted"
    controller.hear(model_registered(2))
    controller.run(1)


def view(controller: Stand, rollout: str) -> Any:
    with reading(controller.engine) as session:
        row = session.get(Rollout, rollout)
        assert row is not None
        return rollout_view(session, row, controller.clock.now())


def test_the_first_version_has_the_base_model_as_its_control(controller: Stand) -> None:
    controller.begin(**POLICY)
    controller.load()
    controller.run(5)
    assert controller.weights()[-1] == {"base": 6000, "intents@1": 2000, "base-control": 2000}
    shown = view(controller, "intents-r1")
    assert (shown.control, shown.control_weight) == ("base-control", 2000)
    controller.run(60)
    assert controller.phase() == "promoted"
    assert controller.weights()[-2:] == [{"base": 0, "intents@1": 10_000, "base-control": 0}, {"intents@1": 10_000}]


def test_traffic_waits_until_every_replica_has_stable_under_its_second_name(controller: Stand) -> None:
    second(controller)
    assert controller.weights()[-1] == {"intents@1": 10_000, "intents@2": 0, "intents@1-control": 0}
    stable, _, control = controller.route()["targets"]
    assert (control["role"], control["adapter"]) == ("control", stable["adapter"])
    controller.load(2)
    controller.hear(control_loaded(REPLICAS[0]))
    controller.run(5)
    assert (controller.phase("intents-r2"), controller.weights()[-1]["intents@2"]) == ("staging", 0)
    assert f"waiting for {REPLICAS[1]}" in view(controller, "intents-r2").reason
    controller.hear(control_loaded(REPLICAS[1]))
    controller.run(60)
    assert controller.phase("intents-r2") == "promoted"
    assert controller.weights()[-5:-2] == [
        {"intents@1": 10_000, "intents@2": 0, "intents@1-control": 0},
        {"intents@1": 6000, "intents@2": 2000, "intents@1-control": 2000},
        {"intents@1": 2000, "intents@2": 4000, "intents@1-control": 4000},
    ]
    assert controller.weights()[-1] == {"intents@2": 10_000}


def test_a_bad_version_is_rolled_back_by_the_control_and_takes_it_along(controller: Stand) -> None:
    second(controller)
    controller.load(2)
    controller.hear(*map(control_loaded, REPLICAS))
    controller.bad_share = 0.4
    controller.run(40)
    assert controller.phase("intents-r2") == "rolled_back"
    last = controller.decisions("intents-r2")[-1]
    assert (last.rule, last.evidence["errors"]["compared_with"]) == ("e_harm", "control")
    assert last.evidence["errors"]["stable_total"] == last.evidence["errors"]["candidate_total"]
    assert controller.weights()[-2:] == [
        {"intents@1": 10_000, "intents@2": 0, "intents@1-control": 0}, {"intents@1": 10_000},
    ]


def test_a_control_that_cannot_be_loaded_ends_the_rollout_and_is_named(controller: Stand) -> None:
    second(controller)
    controller.load(2)
    failed = adapter_failed(REPLICAS[0], 1, permanent=True)
    controller.hear(failed.model_copy(update={"model_version": "intents@1-control"}))
    controller.run(5)
    assert controller.phase("intents-r2") == "rolled_back"
    assert "cannot load intents@1-control: rank 64 is over 16" in view(controller, "intents-r2").reason


def test_gateways_that_do_not_count_the_control_hold_it(controller: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    controller.begin(**POLICY)
    controller.load()
    controller.run(6)
    publish = controller.publish

    def without() -> None:
        publish()
        series = controller.prometheus.series
        series[REQUESTS] = [sample for sample in series[REQUESTS] if sample[0]["model_version"] != "base-control"]

    monkeypatch.setattr(controller, "publish", without)
    controller.run(40)
    assert (controller.phase(), controller.weights()[-1]["intents@1"]) == ("progressing", 2000)
    assert "because there are no fresh samples of base-control" in view(controller, "intents-r1").reason


def test_copies_go_to_candidate_and_control_and_are_compared(controller: Stand) -> None:
    shadow = {"percent": 50, "minDuration": "10s", "minRequests": 10}
    controller.begin(**{**POLICY, "shadow": shadow})
    controller.load()
    controller.run(4)
    assert [target["shadow_share"] for target in controller.route()["targets"]] == [0.0, 0.5, 0.5]
    controller.run(4)
    seen = view(controller, "intents-r1").guardrails[0]
    assert seen.stable.total == seen.candidate.total > 0
