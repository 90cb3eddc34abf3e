"""Compares answers with the format that was asked for, in a thread: a long answer takes milliseconds to read again."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.gateway.answer_metrics import AnswerCounts
from services.gateway.answers import Structured, check, wants_structure
from services.gateway.record import Record
from shared.telemetry import get_logger

log = get_logger(__name__)

# Of an answer that are kept, and of all that waits. What is longer or finds no room is counted as unchecked.
ANSWER_BYTES = 262_144
QUEUE_BYTES = 16_777_216


@dataclass(frozen=True, slots=True)
class _Job:
    request: bytes
    responses: tuple[bytes, ...]
    done: Callable[[list[Structured | None]], None]

    @property
    def size(self) -> int:
        return len(self.request) + sum(map(len, self.responses))


class StructureChecker:
    """Takes finished exchanges. `keep_bytes` and `take` are for the event loop.

    Args:
        counts: of a route and a model version's label.
        invalid: told, in the thread, of each answer that is not what was asked for, and when its exchange began.
    """

    def __init__(
        self, counts: Callable[[str, str], AnswerCounts], invalid: Callable[[Record, float], None], *,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._counts = counts
        self._invalid = invalid
        self._queue_bytes = queue_bytes
        self._waiting: deque[_Job] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="structure", daemon=True)

    def keep_bytes(self, request: bytes) -> int:
        """How much of the answer to a request is needed."""
        return ANSWER_BYTES if wants_structure(request) else 0

    def take(self, record: Record) -> None:
        """A request is over; where it asked for structure and went well, its answer is compared soon."""
        if record.outcome != "ok" or record.response is None or not wants_structure(record.request):
            return
        counts = self._counts(record.route, record.target.label)
        begun = time.perf_counter() - record.seconds

        def done(results: list[Structured | None]) -> None:
            with self._changed:
                for result in results:
                    if result is not None:
                        counts.checked(result)
            if "invalid" in results:
                self._invalid(record, begun)

        if record.truncated or not self._offer(_Job(record.request, (record.response,), done)):
            done(["unchecked"])

    def compare(
        self, request: bytes, responses: Sequence[bytes], done: Callable[[list[Structured | None]], None]
    ) -> None:
        """Compare several answers to one request soon, and call `done` in the thread; never, if there is no room."""
        self._offer(_Job(request, tuple(responses), done))

    def _offer(self, job: "_Job") -> bool:
        with self._changed:
            if self._stopping or self._bytes + job.size > self._queue_bytes:
                return False
            self._bytes += job.size
            self._waiting.append(job)
            self._changed.notify()
        return True

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Compare what waits, and end, within `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                self._bytes -= job.size
            job.done([_checked(job.request, response) for response in job.responses])


def _checked(request: bytes, response: bytes) -> Structured | None:
    try:
        return check(request, response)
    except Exception:
        log.exception("an answer could not be compared with the format that was asked for")
        return "unchecked"
