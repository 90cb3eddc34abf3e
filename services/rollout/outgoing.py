"""Calls that a look wants made, as rows in its transaction; services/rollout/courier.py makes them afterwards.

So a look that is lost makes no call, one that is stored makes its calls though the controller dies the moment after,
and nobody but the owner of the rollout's lease can want one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlmodel import Session, col, delete

from services.rollout import notices
from services.rollout.hook_state import Ask
from services.rollout.hooks import ASKED
from services.rollout.models import WebhookCall
from services.rollout.notices import Subject
from services.rollout.state import TERMINAL, RolloutState
from shared.events import Event
from shared.webhooks import Notification, Receiver

NOTIFICATION = "notification"
# Nobody waits for a message: it is tried again for more than an hour (courier.delay_after).
MESSAGE_ATTEMPTS = 20
_MESSAGE_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Outgoing:
    """The calls of one look at one rollout.

    Attributes:
        defaults: notifications of pipelines that say nothing of them.
    """

    session: Session
    defaults: Sequence[Notification]
    now: datetime

    def ask(self, effect: Ask, about: Subject) -> None:
        """Have a webhook asked; what it was asked before is forgotten, and an answer to that is dropped."""
        webhook = next(each for each in about.policy.webhooks if each.name == effect.webhook)
        values: dict[str, Any] = {
            "state": "ask", "webhook": webhook.name, "type": webhook.type, "number": effect.call,
            "message_id": f"msg_{uuid4().hex}", **_receiver(webhook), "most_attempts": webhook.retries + 1,
            "timeout_seconds": webhook.timeout.total_seconds(), "created_at": self.now,
            "body": notices.webhook_body(webhook, about, self.now, {"call": effect.call}),
        }
        key = f"{about.row.id}/{webhook.name}"
        row = self.session.get(WebhookCall, key, with_for_update=True)
        if row is None:
            self.session.add(WebhookCall(id=key, rollout_id=about.row.id, **values))
            return
        # Whoever makes the older call holds a lease of an older epoch, and cannot answer any more.
        fresh = {"attempts": 0, "ok": None, "said": "", "ended_at": None, "lease_owner": None, "lease_until": None,
                 "next_look_at": None, "lease_epoch": row.lease_epoch + 1, "generation": row.generation + 1}
        row.sqlmodel_update({**values, **fresh})

    def tell(self, event: Event[Any], before: RolloutState, about: Subject) -> None:
        """Have everybody told who wants to hear of an event, and no question answered that nobody asks any more."""
        kind = notices.kind_of(before, about.state)
        text = about.state.reason if kind is None else notices.sentence(kind, about)
        said = notices.event_metadata(event.type, text, kind == "rolled_back" or bool(about.state.fired), event.time)
        for webhook in about.policy.webhooks:
            if webhook.type == "event" or (webhook.type == "post-rollout" and about.state.phase in TERMINAL):
                body = notices.webhook_body(webhook, about, event.time, {"event": event.type, "text": text}, said)
                self._message(event, about, webhook, webhook.type, body, attempts=webhook.retries + 1,
                              timeout=webhook.timeout.total_seconds())
        if kind is not None:
            for notification in self._notifications(about):
                if notification.events is None or kind in notification.events:
                    make = notices.slack_body if notification.format == "slack" else notices.json_body
                    self._message(event, about, notification, NOTIFICATION, make(kind, about, event.time),
                                  attempts=MESSAGE_ATTEMPTS, timeout=_MESSAGE_TIMEOUT_SECONDS)
        if about.state.phase == "aborting" or about.state.phase in TERMINAL:
            self._forget_questions(about.row.id)

    def _notifications(self, about: Subject) -> Iterable[Notification]:
        mine = about.policy.notifications
        return self.defaults if mine is None else mine

    def _message(
        self, event: Event[Any], about: Subject, receiver: Receiver, type_: str, body: str, *, attempts: int,
        timeout: float,
    ) -> None:
        self.session.add(WebhookCall(
            id=f"{event.id}/{type_}/{receiver.name}", state="tell", rollout_id=about.row.id, webhook=receiver.name,
            type=type_, message_id=f"msg_{uuid4().hex}", **_receiver(receiver), timeout_seconds=timeout,
            most_attempts=attempts, body=body, created_at=self.now,
        ))

    def _forget_questions(self, rollout_id: str) -> None:
        self.session.exec(delete(WebhookCall).where(
            col(WebhookCall.rollout_id) == rollout_id, col(WebhookCall.type).in_(ASKED)
        ))


def _receiver(receiver: Receiver) -> dict[str, Any]:
    return {"url": receiver.url, "url_from": receiver.url_from, "secret": receiver.secret}
