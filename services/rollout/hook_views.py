"""What came of a rollout's webhooks and notifications, for people and tools."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.orm import load_only
from sqlmodel import Session, col, select

from services.rollout.hook_state import HookState
from services.rollout.hooks import ASKED
from services.rollout.models import WebhookCall
from services.rollout.state import RolloutState
from shared.pipeline import RolloutPolicy


class WebhookView(BaseModel):
    """One webhook, or one notification.

    Attributes:
        type: a webhook's, or ``notification``.
        outcome: of a question: ``passed``, ``refused`` or ``pending``; of messages: ``failed`` where one was given up,
            ``pending`` where one is still tried, else ``delivered``.
        calls: how many questions were asked, or messages said.
        failed: questions in a row that were not answered 2xx, or messages that were given up.
        said: the last answer, or why there was none; of messages that of the one that fares worst.
    """

    name: str
    type: str
    outcome: Literal["passed", "refused", "pending", "delivered", "failed"]
    calls: int
    failed: int
    said: str


def webhook_views(
    session: Session, known: Mapping[str, tuple[RolloutState, RolloutPolicy]]
) -> Mapping[str, list[WebhookView]]:
    """Those that were called, by rollout's id; questions first."""
    messages: dict[str, dict[tuple[str, str], list[WebhookCall]]] = defaultdict(lambda: defaultdict(list))
    needed: list[Any] = [WebhookCall.rollout_id, WebhookCall.webhook, WebhookCall.type, WebhookCall.state,
                         WebhookCall.said]
    query = select(WebhookCall).options(load_only(*needed)).where(
        col(WebhookCall.rollout_id).in_(known), col(WebhookCall.type).not_in(ASKED)
    ).order_by(col(WebhookCall.created_at))
    for row in session.exec(query):
        messages[row.rollout_id][row.webhook, row.type].append(row)
    return {
        rollout: [
            *(_question(webhook.name, webhook.type, state.hooks[webhook.name]) for webhook in policy.webhooks
              if webhook.name in state.hooks),
            *(_messages(name, type_, rows) for (name, type_), rows in messages[rollout].items()),
        ]
        for rollout, (state, policy) in known.items()
    }


def _question(name: str, type_: str, mine: HookState) -> WebhookView:
    outcome: Literal["passed", "refused", "pending"] = "passed" if mine.passed else "refused"
    return WebhookView(
        name=name, type=type_, outcome=outcome if mine.answered else "pending", calls=mine.call, failed=mine.failures,
        said=mine.said,
    )


def _messages(name: str, type_: str, rows: Sequence[WebhookCall]) -> WebhookView:
    failed = [row for row in rows if row.state == "failed"]
    trying = [row for row in rows if row.state == "tell"]
    outcome: Literal["failed", "pending", "delivered"] = "failed" if failed else "pending" if trying else "delivered"
    return WebhookView(
        name=name, type=type_, outcome=outcome, calls=len(rows), failed=len(failed),
        said=(failed or trying or rows)[-1].said,
    )
