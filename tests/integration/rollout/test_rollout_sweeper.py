"""Messages that have ended are kept for a while, and then deleted."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from services.rollout.models import WebhookCall
from services.rollout.sweeper import Sweeper
from shared.clock import VirtualClock
from shared.db import reading, transaction
from tests.support.delivery import START

pytestmark = pytest.mark.integration
KEEP = timedelta(days=30)


def call(name: str, state: str, ended: timedelta | None) -> WebhookCall:
    return WebhookCall(
        id=name, state=state, rollout_id="r", webhook="team", type="notification", message_id=name, timeout_seconds=10,
        most_attempts=20, body="{}", created_at=START - timedelta(days=365),
        ended_at=None if ended is None else START - ended,
    )


def test_messages_go_when_their_time_is_over_and_all_else_stays(engine: Engine) -> None:
    old, young = KEEP + timedelta(seconds=1), KEEP - timedelta(seconds=1)
    with transaction(engine) as session:
        session.add_all([
            call("delivered long ago", "delivered", old), call("given up long ago", "failed", old),
            call("delivered lately", "delivered", young), call("still tried", "tell", None),
            call("a question", "ask", None), call("an answered question", "answered", old),
        ])
    clock = VirtualClock(START)
    sweeper = Sweeper(engine, clock, KEEP)
    assert (sweeper.step(), sweeper.step()) == (2, 0)
    with reading(engine) as session:
        left = set(session.exec(select(WebhookCall.id)).all())
    assert left == {"delivered lately", "still tried", "a question", "an answered question"}
    clock.advance(2)
    assert sweeper.step() == 1
