"""Hears what was said at other gateways: feedback may come to any of them, and who asked is known to one alone.

Only what is said from now on is read. What is said while Kafka is away, or on answers from before a restart, is heard
by nobody who knows the unit; it is missing for all versions alike.
"""

import threading
from collections.abc import Callable

from services.gateway.keeper import follow
from services.gateway.settings import GatewaySettings
from shared.events import Event, FeedbackReceived, Topic
from shared.messaging import TableConsumer
from shared.messaging.security import KafkaSecurity
from shared.telemetry import get_logger

log = get_logger(__name__)

TOPICS = (Topic.FEEDBACK,)


class Elsewhere:
    """Follows the topic of feedback in a thread.

    Args:
        heard: called in the thread with each feedback that any gateway took in, this one too.
    """

    def __init__(self, settings: GatewaySettings, heard: Callable[[FeedbackReceived], None]) -> None:
        self._settings = settings
        self._heard = heard
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feedback-elsewhere", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Hear nothing more."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for the end at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        follow(self._consumer, self._stop, "following feedback failed; what other gateways hear counts no unit")

    def _consumer(self) -> TableConsumer:
        return TableConsumer(
            self._settings.kafka_bootstrap, TOPICS, self._on_event, newest=True,
            on_caught_up=lambda: log.info("following feedback"), security=KafkaSecurity.of(self._settings),
        )

    def _on_event(self, event: Event[FeedbackReceived]) -> None:
        self._heard(event.data)
