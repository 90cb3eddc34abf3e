"""The HTTP API over a real port, with the loop that acts on what it leaves, on SQLite and PostgreSQL."""

from collections.abc import Iterator

import httpx
import pytest

from services.rollout.api import build_router
from services.rollout.settings import RolloutSettings
from shared.http import build_app
from shared.s3 import connect_store
from shared.service import Runtime
from tests.support.http import served
from tests.support.rollout_stand import Stand, model_registered

pytestmark = pytest.mark.integration


@pytest.fixture
def api(controller: Stand) -> Iterator[httpx.Client]:
    settings = RolloutSettings()
    runtime = Runtime(settings=settings, engine=controller.engine, store=connect_store(settings),
                      clock=controller.clock, instance="test")
    app = build_app(settings, controller.engine, build_router(runtime))
    with served(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def progressing(controller: Stand) -> Stand:
    controller.begin()
    controller.load()
    controller.run(6)
    assert controller.phase() == "progressing"
    return controller


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_a_rollout_shows_its_evidence(api: httpx.Client, progressing: Stand) -> None:
    progressing.run(6)
    item = api.get("/v1/rollouts/intents-r1").json()
    assert {key: item[key] for key in ("id", "pipeline", "route", "model_version", "stable", "phase")} == {
        "id": "intents-r1", "pipeline": "intents", "route": "intents", "model_version": "intents@1", "stable": None,
        "phase": "progressing",
    }
    assert (item["step"], item["steps"], item["weight"]) == (1, 2, 2000)
    assert (item["outcome"], item["guardrail"], item["finished_at"]) == (None, None, None)
    [guardrail] = item["guardrails"]
    assert (item["users_exposed"], item["seconds_exposed"] > 0) == (guardrail["candidate"]["total"], True)
    assert guardrail["metric"] == "errors"
    assert guardrail["candidate"]["total"] > 0
    assert guardrail["candidate"]["bad"] == 0
    assert (guardrail["harm_threshold"], guardrail["safe_threshold"]) == (20, 20)
    assert guardrail["e_safe"] > 1
    assert guardrail["verdict"] in ("undecided", "safe")


def test_lists_are_newest_first_and_filtered(api: httpx.Client, progressing: Stand) -> None:
    progressing.clock.advance(1)
    progressing.hear(model_registered(2))
    ids = [item["id"] for item in api.get("/v1/rollouts").json()["items"]]
    assert ids == ["intents-r2", "intents-r1"]
    assert api.get("/v1/rollouts?pipeline=other").json()["items"] == []
    assert len(api.get("/v1/rollouts?route=intents&limit=1").json()["items"]) == 1
    decisions = api.get("/v1/rollouts/intents-r1/decisions").json()["items"]
    assert [item["action"] for item in decisions][-2:] == ["advance", "stage"]
    assert decisions[0]["evidence"]["errors"]["harm_threshold"] == 20
    older = api.get("/v1/rollouts/intents-r1/decisions", params={"before": decisions[-2]["id"]}).json()["items"]
    assert older == decisions[-1:]


def test_people_pause_resume_and_promote(api: httpx.Client, progressing: Stand) -> None:
    answer = api.post("/v1/rollouts/intents-r1/pause", json={"reason": "lunch"})
    assert (answer.status_code, answer.json()["id"]) == (202, "intents-r1")
    progressing.look()
    paused = api.get("/v1/rollouts/intents-r1").json()
    assert (paused["phase"], paused["reason"]) == ("paused", "paused by a person: lunch")
    progressing.run(60)
    assert progressing.route()["targets"][1]["weight"] == 2000
    assert error(api.post("/v1/rollouts/intents-r1/pause")) == (
        409, "rollout intents-r1: cannot pause: it is paused (paused)"
    )
    api.post("/v1/rollouts/intents-r1/resume")
    progressing.look()
    assert progressing.phase() == "progressing"
    api.post("/v1/rollouts/intents-r1/promote", json={"reason": "I know it", "by": "ada", "full": True})
    progressing.run(5)
    [promoted] = progressing.told("rollout.promoted.v1")
    assert promoted["reason"] == "promoted by ada: I know it"
    assert ("promote", "ada") in [
        (item["action"], item["by"]) for item in api.get("/v1/rollouts/intents-r1/decisions").json()["items"]
    ]


def test_a_promotion_goes_one_step_and_a_refusal_is_a_decision(api: httpx.Client, progressing: Stand) -> None:
    api.post("/v1/rollouts/intents-r1/promote", json={"by": "ada"})
    progressing.look()
    assert (progressing.phase(), progressing.weights()[-1]["intents@1"]) == ("progressing", 5000)
    for _ in range(2):
        api.post("/v1/rollouts/intents-r1/pause", json={"by": "bob"})
    progressing.look()
    last = api.get("/v1/rollouts/intents-r1/decisions").json()["items"][0]
    assert (last["action"], last["by"], last["reason"]) == ("refuse", "bob", "pause: it cannot be paused while paused")
    assert error(api.post("/v1/rollouts/intents-r1/abort", json={"full": True})) == (
        422, "rollout intents-r1: only a promotion can be full, not abort"
    )


def test_an_abort_does_not_wait_for_prometheus_or_for_the_next_look(api: httpx.Client, progressing: Stand) -> None:
    progressing.prometheus.fault = "hang"
    assert api.post("/v1/rollouts/intents-r1/abort", json={"reason": "smells"}).status_code == 202
    queries = len(progressing.prometheus.queries)
    progressing.look()
    assert len(progressing.prometheus.queries) == queries
    assert progressing.weights()[-1] == {"base": 10_000, "intents@1": 0}
    progressing.prometheus.fault = None
    progressing.run(3)
    item = api.get("/v1/rollouts/intents-r1").json()
    assert (item["phase"], item["outcome"], item["weight"]) == ("rolled_back", "rolled_back", 0)
    assert item["finished_at"] is not None


def test_two_commands_at_once_are_done_one_after_the_other_at_once(api: httpx.Client, progressing: Stand) -> None:
    api.post("/v1/rollouts/intents-r1/pause")
    api.post("/v1/rollouts/intents-r1/abort")
    progressing.look()
    assert progressing.phase() == "aborting"
    assert [row.action for row in progressing.decisions()][-2:] == ["pause", "rollback"]


def test_an_ended_rollout_takes_no_commands(api: httpx.Client, progressing: Stand) -> None:
    progressing.run(60)
    assert progressing.phase() == "promoted"
    for verb in ("pause", "resume", "promote", "abort"):
        assert error(api.post(f"/v1/rollouts/intents-r1/{verb}")) == (
            409, f"rollout intents-r1: cannot {verb}: it has ended (promoted)"
        )
    assert api.post("/v1/rollouts/intents-r1/explode").status_code == 422


def test_what_is_not_there_is_named(api: httpx.Client) -> None:
    for path in ("/v1/rollouts/nobody", "/v1/rollouts/nobody/decisions"):
        assert error(api.get(path)) == (404, "no rollout nobody")
    assert error(api.post("/v1/rollouts/nobody/abort")) == (404, "no rollout nobody")
    assert error(api.get("/v1/routes/nobody")) == (404, "no route nobody")


def test_routes_show_what_the_gateways_are_told(api: httpx.Client, progressing: Stand) -> None:
    [route] = api.get("/v1/routes").json()["items"]
    assert route == api.get("/v1/routes/intents").json()
    assert (route["rollout"], route["base_model"]) == ("intents-r1", "tiny")
    assert [(target["model_version"], target["role"], target["weight"]) for target in route["targets"]] == [
        (None, "stable", 8000), ("intents@1", "candidate", 2000)
    ]


def test_the_controllers_own_metrics(api: httpx.Client, progressing: Stand) -> None:
    text = api.get("/metrics").text
    assert 'tuneloop_rollout_weight{route="intents"} 2000.0' in text
    assert 'tuneloop_rollout_phase{phase="progressing",route="intents"} 1.0' in text
    assert 'tuneloop_rollout_threshold{guardrail="errors",kind="harm",route="intents"} 20.0' in text
    assert 'tuneloop_rollout_e_value{guardrail="errors",kind="safe",route="intents"}' in text
    assert 'tuneloop_rollout_decisions_total{action="advance",route="intents",rule="loaded"}' in text
