"""Webhooks through the whole controller and a real HTTP server, on SQLite and PostgreSQL."""

import threading
from pathlib import Path

import pytest

from services.rollout.courier import Courier
from services.rollout.webhook_http import Sender
from services.rollout.webhook_secrets import Secrets
from shared.clock import SystemClock
from tests.support.rollout_stand import Stand
from tests.support.wait import eventually
from tests.support.webhook_receiver import WebhookReceiver
from tests.support.webhook_stand import go_on, reason, seen, webhooks
from tests.unit.rollout.test_rollout_webhook_parts import KEY, documented

pytestmark = pytest.mark.integration

POINTS = ("confirm-rollout", "pre-rollout", "rollout", "confirm-traffic-increase", "confirm-promotion", "post-rollout",
          "rollback", "event")


def test_every_point_is_called_signed_and_in_its_place(
    controller: Stand, courier: Courier, receiver: WebhookReceiver
) -> None:
    controller.begin(webhooks=webhooks(receiver, *POINTS, metadata={"suite": "intents"}))
    controller.load()
    go_on(controller, courier)
    assert controller.phase() == "promoted"
    verified = documented(lambda: controller.clock.now().timestamp())
    first: dict[str, tuple[str, int]] = {}
    for call in receiver.received:
        assert verified(KEY, dict(call.headers), call.body)
        data = call.json["data"]
        first.setdefault(call.json["type"], (data["phase"], data["weight"]))
        assert (data["model_version"], data["stable"], data["steps"]) == ("intents@1", None, 2)
        assert call.json["metadata"]["suite"] == "intents"
        assert (call.json["name"], call.json["namespace"]) == ("intents", "intents")
    assert first == {
        "confirm-rollout": ("staging", 0), "rollback": ("staging", 0), "event": ("staging", 0),
        "pre-rollout": ("staging", 0), "confirm-traffic-increase": ("staging", 0), "rollout": ("progressing", 2000),
        "confirm-promotion": ("progressing", 5000), "post-rollout": ("promoted", 10_000),
    }
    ids = [call.headers["webhook-id"] for call in receiver.received]
    assert len(set(ids)) == len(ids)
    assert len(receiver.got("/confirm-traffic-increase")) == 2, "for 20 % and for 50 %"
    events = [call.json["data"]["event"] for call in receiver.got("/event")]
    assert events == ["rollout.progressed.v1"] * 4 + ["rollout.promoted.v1"]
    assert receiver.got("/event")[-1].json["metadata"]["eventType"] == "Normal"
    assert {name: view.outcome for name, view in seen(controller).items()} == {
        "confirm-rollout": "passed", "pre-rollout": "passed", "rollout": "passed", "confirm-traffic-increase": "passed",
        "confirm-promotion": "passed", "rollback": "refused", "post-rollout": "delivered", "event": "delivered",
    }
    assert courier.step() == 0


def test_an_answer_that_comes_after_a_newer_question_is_dropped(
    controller: Stand, courier: Courier, receiver: WebhookReceiver
) -> None:
    controller.begin(webhooks=webhooks(receiver, "confirm-traffic-increase"))
    controller.load()
    controller.look()
    controller.clock.advance(2)
    controller.look()

    def a_person_promotes_and_the_next_step_is_asked_about() -> None:
        controller.ask("promote")
        controller.look()
        for _ in range(15):
            controller.clock.advance(1)
            controller.serve(100)
            controller.look()

    receiver.during["/confirm-traffic-increase"] = a_person_promotes_and_the_next_step_is_asked_about
    receiver.answers["/confirm-traffic-increase"] = [200, (403, "no")]
    courier.step()
    controller.look()
    assert controller.row().weight == 2000, "the yes was about the first step"
    go_on(controller, courier, 6)
    assert controller.row().weight == 2000
    asked = [call.json["data"] for call in receiver.got("/confirm-traffic-increase")]
    assert [data["weight"] for data in asked[:2]] == [0, 2000]
    assert [data["call"] for data in asked] == list(range(1, len(asked) + 1))


def test_one_who_hangs_keeps_nobody_else_waiting_and_a_stop_hands_the_call_on(
    controller: Stand, secrets: Path, receiver: WebhookReceiver
) -> None:
    """The loop as it runs, with the machine's clock; two rollouts ask, and one receiver never answers."""
    receiver.answers["/hang"] = ["hang", 200]
    hanging = {"name": "hang", "type": "confirm-rollout", "url": f"{receiver.url}/hang", "timeout": "5m"}
    loop = Courier(controller.engine, Sender(Secrets(secrets)), SystemClock(), owner="a", interval=0.05)
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    thread.start()
    controller.begin(webhooks=[hanging, *webhooks(receiver, "confirm-rollout")])
    controller.look()
    [first] = receiver.wait_for("/hang")
    receiver.wait_for("/confirm-rollout")

    def answered() -> bool:
        controller.look()
        return "confirm-rollout" in {name for name, view in seen(controller).items() if view.outcome == "passed"}

    eventually(answered, what="the other answer")
    assert seen(controller)["hang"].outcome == "pending"
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert Courier(controller.engine, Sender(Secrets(secrets)), SystemClock(), owner="b").step() == 1
    second = receiver.got("/hang")[-1]
    assert (second.headers["webhook-id"], second.body) == (first.headers["webhook-id"], first.body)
    controller.look()
    assert reason(controller) == "the replicas are loading the candidate"
