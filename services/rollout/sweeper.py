"""Deletes messages to webhooks and people that have ended long ago: every rollout leaves some, with their whole bodies.

What the rollout was decided by stays; a message only says what its decisions say.
"""

import threading
from datetime import timedelta

from sqlalchemy import Engine
from sqlmodel import col, delete, select

from services.rollout.models import WebhookCall
from shared.clock import Clock
from shared.db import reading, transaction
from shared.telemetry import get_logger

log = get_logger(__name__)

# Of a message; questions are answered and forgotten with their rollout.
_ENDED = ("delivered", "failed")
_PAUSE_SECONDS = 600.0
# Rows of one transaction, so that nobody waits for long.
_AT_ONCE = 500


class Sweeper:
    """Looks for such rows now and then; a `shared.service.Loop`. Any number of controllers may.

    Args:
        keep: how long a message stays after it was delivered, or given up.
    """

    name = "sweeper"

    def __init__(self, engine: Engine, clock: Clock, keep: timedelta) -> None:
        self._engine, self._clock, self._keep = engine, clock, keep

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop`; a database error ends the loop, and with it the process."""
        while not stop.is_set():
            while self.step() == _AT_ONCE and not stop.is_set():
                pass
            self._clock.wait(stop, _PAUSE_SECONDS)

    def step(self) -> int:
        """Delete the oldest of those that have been kept for long enough; how many there were."""
        until = self._clock.now() - self._keep
        ended = select(WebhookCall.id).where(col(WebhookCall.state).in_(_ENDED), col(WebhookCall.ended_at) < until)
        with reading(self._engine) as session:
            old = session.exec(ended.order_by(col(WebhookCall.ended_at)).limit(_AT_ONCE)).all()
        if old:
            with transaction(self._engine) as session:
                session.exec(delete(WebhookCall).where(col(WebhookCall.id).in_(old)))
            log.info("old messages to webhooks are deleted", messages=len(old), ended_before=until.isoformat())
        return len(old)
