"""Webhooks on the controller's test stand: who is called, when, and what people then see."""

from typing import Any

from services.rollout.courier import Courier
from services.rollout.hook_views import WebhookView
from services.rollout.models import Rollout
from services.rollout.state import TERMINAL
from services.rollout.views import rollout_view
from shared.db import reading
from tests.support.rollout_stand import Stand
from tests.support.webhook_receiver import WebhookReceiver


def webhooks(receiver: WebhookReceiver, *types: str, **changes: Any) -> list[dict[str, Any]]:
    return [{"name": type_, "type": type_, "url": f"{receiver.url}/{type_}", "secret": "ops", **changes}
            for type_ in types]


def go_on(controller: Stand, courier: Courier, seconds: int = 60) -> None:
    """Time, traffic, looks and calls, a second at a time, until the rollout's end."""
    for _ in range(seconds):
        controller.clock.advance(1)
        controller.serve(40)
        controller.look()
        while courier.step():
            controller.look()
        if controller.phase() in TERMINAL:
            return


def seen(controller: Stand, rollout: str = "intents-r1") -> dict[str, WebhookView]:
    with reading(controller.engine) as session:
        view = rollout_view(session, session.get_one(Rollout, rollout), controller.clock.now())
    return {each.name: each for each in view.webhooks}


def reason(controller: Stand) -> str:
    with reading(controller.engine) as session:
        return str(session.get_one(Rollout, "intents-r1").data["reason"])
