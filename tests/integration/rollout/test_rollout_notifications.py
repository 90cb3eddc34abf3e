"""Who is told, what refusals and failures do, and that nobody who fails to hear holds anything."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from services.rollout.courier import LONGEST_DELAY, Courier
from services.rollout.hook_views import WebhookView
from services.rollout.models import Base, WebhookCall
from services.rollout.outgoing import MESSAGE_ATTEMPTS
from services.rollout.reconcile import Reconciler
from shared.db import reading
from shared.webhooks import Notification
from tests.support.db import sqlite_engine
from tests.support.rollout_stand import Stand
from tests.support.webhook_receiver import WebhookReceiver
from tests.support.webhook_stand import go_on, reason, seen, webhooks

pytestmark = pytest.mark.integration



SLOW = [{"weight": 20, "minDuration": "10m"}]


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Of one kind: what differs between databases is in test_rollout_webhooks.py."""
    with sqlite_engine(Base.metadata) as made:
        yield made


def test_a_refusal_holds_and_is_told_once_and_a_yes_lets_it_go_on(
    controller: Stand, courier: Courier, receiver: WebhookReceiver
) -> None:
    receiver.answers["/confirm-promotion"] = [(403, "frozen until Monday")]
    controller.begin(
        webhooks=webhooks(receiver, "confirm-promotion"), notifications=[{"name": "team", "urlFrom": "slack"}]
    )
    controller.load()
    go_on(controller, courier, 50)
    assert (controller.phase(), controller.row().weight) == ("progressing", 5000)
    waits = "waiting for the webhook confirm-promotion (confirm-promotion): answered 403: frozen until Monday"
    assert reason(controller) == waits
    assert controller.decisions()[-1].reason == waits
    asked = len(receiver.got("/confirm-promotion"))
    assert 2 <= asked <= 10, "once an interval of 5 s"
    told = [json.loads(call.body)["text"] for call in receiver.got("/slack")]
    assert [text.split(":")[0] for text in told] == [
        "intents@1 has begun its rollout", "intents@1 goes on", "intents@1 goes on", "intents@1 waits",
    ]
    assert told[-1].endswith("frozen until Monday")
    receiver.answers["/confirm-promotion"] = [200]
    go_on(controller, courier, 15)
    assert controller.phase() == "promoted"
    assert "errors: 0 bad of" in json.loads(receiver.got("/slack")[-1].body)["text"]


def test_a_fault_is_tried_again_with_the_same_id_and_body(
    controller: Stand, courier: Courier, receiver: WebhookReceiver
) -> None:
    receiver.answers["/confirm-rollout"] = [500, 503, 200]
    controller.begin(webhooks=webhooks(receiver, "confirm-rollout"))
    go_on(controller, courier, 10)
    calls = receiver.got("/confirm-rollout")
    assert len(calls) == 3
    assert len({(call.headers["webhook-id"], call.body) for call in calls}) == 1
    assert len({call.headers["webhook-timestamp"] for call in calls}) == 3
    assert controller.told("rollout.progressed.v1")[0]["phase"] == "staging"


def test_a_failing_check_rolls_back_and_says_what_it_said(
    controller: Stand, courier: Courier, receiver: WebhookReceiver
) -> None:
    receiver.answers["/rollout"] = [200, (422, "3 of 40 answers are wrong")]
    controller.begin(
        webhooks=webhooks(receiver, "rollout", "post-rollout", failureThreshold=2)[:1]
        + webhooks(receiver, "post-rollout"),
        notifications=[{"name": "audit", "format": "json", "url": f"{receiver.url}/audit", "events": ["rolled_back"]}],
    )
    controller.load()
    go_on(controller, courier)
    assert controller.phase() == "rolled_back"
    why = "the webhook rollout (rollout) failed 2 of 2 times in a row: answered 422: 3 of 40 answers are wrong"
    [audit] = receiver.got("/audit")
    assert audit.json["type"] == "rollout.rolled_back"
    assert audit.json["data"]["text"].startswith("intents@1 was rolled back after ")
    assert audit.json["data"]["text"].endswith(why)
    assert audit.json["data"]["evidence"]["errors"]["candidate_total"] > 0
    [post] = receiver.got("/post-rollout")
    assert (post.json["phase"], post.json["metadata"]["eventType"]) == ("rolled_back", "Warning")


def test_a_rollback_webhook_is_heard_at_once(controller: Stand, courier: Courier, receiver: WebhookReceiver) -> None:
    controller.begin(webhooks=webhooks(receiver, "rollback"), interval="30s", steps=SLOW)
    controller.load()
    go_on(controller, courier, 40)
    assert controller.row().weight > 0
    receiver.answers["/rollback"] = [(200, "")]
    while controller.row().weight:
        before = controller.clock.now()
        go_on(controller, courier, 1)
    assert controller.phase() == "aborting"
    assert (controller.clock.now() - before).total_seconds() == 1, "in the second of the answer"


def test_messages_that_do_not_arrive_hold_nothing_and_are_seen(
    controller: Stand, courier: Courier, receiver: WebhookReceiver
) -> None:
    receiver.answers |= {"/slack": [500], "/event": [(410, "gone")]}
    controller.reconciler = Reconciler(
        controller.engine, controller.client, controller.clock, [Notification(name="ops", url_from="slack")]
    )
    controller.loop = controller.reconciler.loop(owner="one")
    controller.begin(webhooks=webhooks(receiver, "event"))
    controller.load()
    go_on(controller, courier)
    assert controller.phase() == "promoted"
    found = seen(controller)
    assert found["ops"].outcome == "pending"
    assert (found["event"].outcome, found["event"].failed, found["event"].said) == ("failed", 5, "answered 410: gone")
    for _ in range(MESSAGE_ATTEMPTS):
        controller.clock.advance(LONGEST_DELAY.total_seconds())
        courier.step()
    assert seen(controller)["ops"] == WebhookView(
        name="ops", type="notification", outcome="failed", calls=4, failed=4, said="answered 500",
    )
    assert len(receiver.got("/slack")) == 4 * MESSAGE_ATTEMPTS
    assert len({call.headers["webhook-id"] for call in receiver.got("/slack")}) == 4


def test_a_pipeline_may_have_nobody_told(controller: Stand, courier: Courier, receiver: WebhookReceiver) -> None:
    controller.reconciler = Reconciler(
        controller.engine, controller.client, controller.clock, [Notification(name="ops", url_from="slack")]
    )
    controller.loop = controller.reconciler.loop(owner="one")
    controller.begin(notifications=[])
    controller.load()
    go_on(controller, courier)
    assert controller.phase() == "promoted"
    assert receiver.received == []


def test_what_nobody_waits_for_any_more_is_not_asked(
    controller: Stand, courier: Courier, receiver: WebhookReceiver
) -> None:
    receiver.answers["/confirm-rollout"] = [503]
    controller.begin(webhooks=webhooks(receiver, "confirm-rollout"))
    go_on(controller, courier, 1)
    controller.ask("abort")
    controller.look()
    before = len(receiver.received)
    go_on(controller, courier, 10)
    assert controller.phase() == "rolled_back"
    assert len(receiver.received) == before
    with reading(controller.engine) as session:
        assert session.exec(select(WebhookCall)).all() == []
