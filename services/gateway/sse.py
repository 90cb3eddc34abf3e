"""Server-sent events as they pass through: where events end, and what they tell about timing and tokens. Pure.

`EventCutter` lets whole events pass, byte for byte, and holds back the beginning of one that is not complete, so that
an answer that breaks off never leaves half a JSON document with the client. `StreamMeter` reads the events.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

_EVENT_END = re.compile(rb"\r?\n\r?\n")
_TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call")


class EventTooLongError(Exception):
    """An event is longer than the gateway is willing to hold."""


class EventCutter:
    """Cuts a byte stream at event ends.

    Args:
        limit: bytes of an incomplete event that are held at most.
    """

    def __init__(self, limit: int = 1_048_576) -> None:
        self._limit = limit
        self._held = b""

    def feed(self, chunk: bytes) -> tuple[bytes, list[bytes]]:
        """The bytes that may pass now (whole events), and the data of each event in them.

        Raises:
            EventTooLongError: the held part exceeds the limit.
        """
        stream = self._held + chunk if self._held else chunk
        start, payloads = 0, []
        for end in _EVENT_END.finditer(stream):
            if data := _data(stream[start : end.start()]):
                payloads.append(data)
            start = end.end()
        self._held = stream[start:]
        if len(self._held) > self._limit:
            raise EventTooLongError(f"an event is longer than {self._limit} bytes")
        return stream[:start], payloads


def _data(event: bytes) -> bytes:
    """The data of one event: the ``data:`` lines, joined; comments and other fields are left out."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip()
    lines = (line.rstrip(b"\r") for line in event.split(b"\n"))
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


@dataclass
class Observed:
    """What a batch of events adds. `gaps` are seconds between tokens."""

    first_token: float | None = None
    gaps: list[float] = field(default_factory=list)


class StreamMeter:
    """Follows one stream.

    Args:
        started: when the request began, on the clock that `see` is given.

    Attributes:
        done: ``[DONE]`` was seen.
        error: the message of an error event of the model server; empty where there was none.
        first_token: seconds from the start to the first output.
        usage: the last `usage` object.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._last: float | None = None
        self.done = False
        self.error = ""
        self.first_token: float | None = None
        self.usage: dict[str, Any] | None = None

    def see(self, payloads: list[bytes], now: float) -> Observed:
        """Take in the events that arrived at `now`.

        Events that arrive in one read share the time since the read before it equally, so that sums and counts stay
        true where the network or the model server batches.
        """
        tokens = sum(self._token(payload) for payload in payloads)
        observed = Observed()
        if not tokens:
            return observed
        if self._last is None:
            observed.first_token = self.first_token = now - self._started
            observed.gaps = [0.0] * (tokens - 1)
        else:
            observed.gaps = [(now - self._last) / tokens] * tokens
        self._last = now
        return observed

    def _token(self, payload: bytes) -> bool:
        """Whether the event carries generated output."""
        if payload == b"[DONE]":
            self.done = True
            return False
        try:
            event = json.loads(payload)
        except ValueError:
            return False
        if not isinstance(event, dict):
            return False
        if isinstance(usage := event.get("usage"), dict):
            self.usage = usage
        if error := event.get("error"):
            self.error = str(error.get("message", error)) if isinstance(error, dict) else str(error)
        choices = event.get("choices")
        return isinstance(choices, list) and any(_has_output(choice) for choice in choices)


def _has_output(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    if choice.get("text"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(delta.get(name) for name in _TEXT_FIELDS)


def usage_of(body: bytes) -> Any:
    """The `usage` of an answer in one piece; None where it has none."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document.get("usage") if isinstance(document, dict) else None


def token_counts(usage: Any) -> tuple[int, int]:
    """Prompt and completion tokens of a `usage` object; zeros where it does not say."""
    if not isinstance(usage, dict):
        return 0, 0
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return _count(prompt), _count(completion)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
