"""Publishes events in a thread of its own, so that no request ever waits for Kafka without wanting to.

What waits is bounded by bytes. What cannot be published is given up at once and reported: whoever offered it decides
whether that is a loss to count or an error to answer.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import TuneloopError
from shared.events import Event, encode
from shared.messaging.broker import BrokerUnavailableError, Link, Outgoing, RecordSink
from shared.telemetry import get_logger

log = get_logger(__name__)

_BATCH = 64
_RETRY_SECONDS = 1.0
# What an entry costs beside its bytes.
_OVERHEAD = 1024


class GaveUpError(TuneloopError):
    """An event was not published."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something to publish.

    Attributes:
        make: the event, made in the sender's thread; None where there is nothing to publish after all.
        size: bytes that it holds while it waits.
        done: called in the sender's thread once the broker has it (None), or with the reason why it was given up.
    """

    make: Callable[[], Event[Any] | None]
    size: int
    done: Callable[[Exception | None], None]


class EventSender:
    """See the module.

    Args:
        open_sink: connects to Kafka; called at the first event, and again after a failure.
        max_bytes: of all that waits.
        linger_seconds: how long the first of a batch waits for others. Each batch wakes three threads, which share one
            interpreter with the requests.
    """

    def __init__(
        self, name: str, open_sink: Callable[[], RecordSink], *, max_bytes: int,
        linger_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._open = open_sink
        self._max_bytes = max_bytes
        self._linger_seconds = linger_seconds
        self._clock = clock
        self._sink: RecordSink | None = None
        self._down_until = 0.0
        self._link = Link(name)
        self._waiting: deque[Parcel] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Take nothing more, publish what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait for that at most `timeout` seconds; what is left then is lost."""
        self._thread.join(timeout)

    def offer(self, parcel: Parcel) -> bool:
        """Hand something over, without waiting; False where there is no room, and then `done` is not called."""
        size = parcel.size + _OVERHEAD
        with self._changed:
            if self._stopping or self._bytes + size > self._max_bytes:
                return False
            self._bytes += size
            self._waiting.append(parcel)
            if len(self._waiting) in (1, _BATCH):
                self._changed.notify()
        return True

    def send_waiting(self) -> None:
        """Publish up to a batch of what waits now."""
        with self._changed:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        try:
            self._publish(batch)
        finally:
            with self._changed:
                self._bytes -= sum(parcel.size + _OVERHEAD for parcel in batch)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    break
                if self._linger_seconds:
                    self._changed.wait_for(
                        lambda: self._stopping or len(self._waiting) >= _BATCH, self._linger_seconds
                    )
            self.send_waiting()
        self._close()

    def _publish(self, batch: Sequence[Parcel]) -> None:
        if self._sink is None and self._clock() < self._down_until:
            # Before anything is made for it: making costs more than all the rest.
            for parcel in batch:
                _report(parcel, GaveUpError("Kafka did not answer a moment ago"))
            return
        made = [(parcel, record) for parcel in batch if (record := self._record(parcel)) is not None]
        if not made:
            return
        try:
            results = self._send([record for _, record in made])
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever offered an event must hear of it
            results = [error] * len(made)
        for (parcel, _), result in zip(made, results, strict=True):
            _report(parcel, None if result is None else GaveUpError(f"Kafka did not take it: {result!r}"))

    def _record(self, parcel: Parcel) -> Outgoing | None:
        try:
            event = parcel.make()
            if event is None:
                return None
            message = encode(event)
        except Exception as error:
            log.exception("an event could not be made", loop=self._name)
            _report(parcel, error)
            return None
        headers = tuple((name, value) for name, value in message.headers.items())
        return Outgoing(event.data.TOPIC.value, event.subject.encode(), message.value or b"", headers)

    def _send(self, records: Sequence[Outgoing]) -> list[Exception | None]:
        """The outcome of each record.

        Raises:
            BrokerUnavailableError: Kafka is not there.
        """
        if self._sink is None:
            try:
                self._sink = self._open()
            except BrokerUnavailableError as error:
                self._failed(error)
                raise
        results = self._sink.send(records)
        problems = [result for result in results if result is not None]
        if problems:
            self._failed(problems[0])
        else:
            self._link.up()
        return results

    def _failed(self, error: Exception) -> None:
        """A producer that failed is not used again: it may hold records that would come later and out of order."""
        self._link.down(error)
        self._down_until = self._clock() + _RETRY_SECONDS
        self._close()

    def _close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()


def _report(parcel: Parcel, error: Exception | None) -> None:
    try:
        parcel.done(error)
    except Exception:
        log.exception("the outcome of an event could not be reported")
