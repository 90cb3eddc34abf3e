"""Keys, samples, feedback, units and shadows: what hangs on the data path's seams, wired in one place.

`admission` looks at a request's headers, `wants`, `answered` and `finished` see what became of it. Threads: one follows
the file of keys, one publishes samples, one feedback, one what units met, so that a flood of samples never delays
a person's word or a rollback; one hears of feedback that other gateways took in; one compares answers with the format
that was asked for.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from services.gateway.balance import Balancer
from services.gateway.capture import Capture, CaptureMetrics
from services.gateway.checker import StructureChecker
from services.gateway.doorkeeper import Admission, Doorkeeper, KeyMetrics, admit_anyone
from services.gateway.elsewhere import Elsewhere
from services.gateway.feedback import Answers, Asked
from services.gateway.feedback_door import FeedbackDoor
from services.gateway.flush import Flusher
from services.gateway.key_file import KeyFile
from services.gateway.metrics import GatewayMetrics
from services.gateway.pairs import Pairs
from services.gateway.plan import Plan, Target
from services.gateway.record import Record
from services.gateway.sender import EventSender
from services.gateway.settings import GatewaySettings
from services.gateway.shadow import Shadow
from services.gateway.timers import Timers
from services.gateway.unit_teller import UnitTeller
from shared.api_keys import KeyRing
from shared.gateway_metrics import EVENT_INVALID
from shared.messaging.broker import KafkaSink
from shared.messaging.security import KafkaSecurity

# A feedback is small, and whoever sends it waits; so few of them wait at once.
_FEEDBACK_QUEUE_BYTES = 8_388_608
# Nobody waits for a sample. What units met is looked at every few seconds; it waits in the teller, not in the sender.
_SAMPLES_LINGER, _UNITS_LINGER = 0.25, 1.0
_UNITS_QUEUE_BYTES = 8_388_608


class Features:
    """An observer of exchanges, an admission, and a door.

    Args:
        plan: gives the plan in effect now.
        admission: instead of API keys.

    Raises:
        InvalidInputError: the file of keys is not good.
    """

    def __init__(
        self, settings: GatewaySettings, metrics: GatewayMetrics, timers: Timers, flusher: Flusher,
        plan: Callable[[], Plan], *, admission: Admission | None = None,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._key_file: KeyFile | None = None
        self.admission = admission or self._admission(settings, metrics)
        self._samples = _sender("samples", settings, settings.capture_queue_bytes, _SAMPLES_LINGER)
        self._judgements = _sender("feedback", settings, _FEEDBACK_QUEUE_BYTES)
        self._units = _sender("units", settings, _UNITS_QUEUE_BYTES, _UNITS_LINGER)
        metrics.unit_events.tell(UnitTeller(self._units, metrics.registry, settings.max_units).tell)
        self._answers = Answers(settings.feedback_memory)
        self._capture = Capture(
            self._samples, CaptureMetrics(metrics.registry), plan, answer_bytes=settings.capture_answer_bytes
        )
        self._unit_events = metrics.unit_events
        self._checker = StructureChecker(metrics.answers.of, self._invalid)
        self.shadow = Shadow(
            timers, flusher, Balancer(failures=settings.eject_after_failures, seconds=settings.eject_seconds), metrics,
            plan, pairs=Pairs(metrics, self._checker, self._soon, seconds=settings.shadow_timeout_seconds),
            limit=settings.shadow_max_in_flight, seconds=settings.shadow_timeout_seconds,
            connect_seconds=settings.connect_timeout_seconds,
        )
        self.feedback = FeedbackDoor(
            self._judgements, self._answers, metrics, plan, self.admission, seconds=settings.feedback_timeout_seconds
        )
        self._elsewhere = Elsewhere(settings, lambda said: self._soon(partial(self.feedback.heard, said)))

    def start(self) -> None:
        """Begin the threads. On the event loop."""
        self._loop = asyncio.get_running_loop()
        for sender in self._senders:
            sender.start()
        self._checker.start()
        self._elsewhere.start()
        if self._key_file is not None:
            self._key_file.start()

    def close(self) -> None:
        """Break off the shadow copies. On the event loop."""
        self.shadow.close()

    def stop(self, timeout: float) -> None:
        """Publish what waits and end the threads, within `timeout` seconds. Not on the event loop."""
        deadline = time.monotonic() + timeout
        self._elsewhere.stop()
        if self._key_file is not None:
            self._key_file.stop(timeout)
        for sender in self._senders:
            sender.finish()
        self._checker.stop(max(0.0, deadline - time.monotonic()))
        for sender in self._senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        self._elsewhere.join(max(0.0, deadline - time.monotonic()))

    @property
    def _senders(self) -> tuple[EventSender, ...]:
        return self._judgements, self._units, self._samples

    # The observer of exchanges.

    def wants(self, request_id: str, target: Target, request: bytes) -> int | None:
        """An exchange begins."""
        keep = max(self._capture.keep_bytes(request_id, target), self._checker.keep_bytes(request))
        return keep if keep or self.shadow.follows(target.route) else None

    def answered(self, request_id: str, target: Target, unit: int, begun: float) -> None:
        """There is an answer to think something of."""
        self._answers.give(request_id, target.route, target.label, Asked(unit, begun))

    def finished(self, record: Record) -> None:
        """It is over."""
        self.shadow.consider(record)
        self._capture.take(record)
        self._checker.take(record)

    def _invalid(self, record: Record, begun: float) -> None:
        """From the checker's thread."""
        self._soon(partial(
            self._unit_events.badly, record.route, record.target.label, record.unit, begun, event=EVENT_INVALID,
        ))

    def _soon(self, call: Callable[[], None]) -> None:
        """On the event loop, from any thread. A process that ends has none any more."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)

    def _admission(self, settings: GatewaySettings, metrics: GatewayMetrics) -> Admission:
        if settings.api_keys_file is None:
            return admit_anyone
        key_metrics = KeyMetrics(metrics.registry)
        doorkeeper = Doorkeeper(key_metrics)

        def take_up(ring: KeyRing) -> None:
            self._soon(partial(doorkeeper.use, ring))

        self._key_file = KeyFile(settings.api_keys_file, take_up, key_metrics.file_ok.set)
        doorkeeper.use(self._key_file.load())
        return doorkeeper.admit


def _sender(name: str, settings: GatewaySettings, max_bytes: int, linger_seconds: float = 0.0) -> EventSender:
    def connect() -> KafkaSink:
        return KafkaSink(settings.kafka_bootstrap, f"gateway-{name}", KafkaSecurity.of(settings))

    return EventSender(name, connect, max_bytes=max_bytes, linger_seconds=linger_seconds)
