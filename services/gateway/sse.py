"""Server-sent events as they pass through: where events end, and what they tell about timing and tokens. Pure.

`EventCutter` lets whole events pass, byte for byte, and holds back the beginning of one that is not complete, so that
an answer that breaks off never leaves half a JSON document with the client. `StreamMeter` reads the events.
"""

import re
from typing import Any

from services.gateway import codec

_EVENT_END = re.compile(rb"\r?\n\r?\n")
# Inside of a JSON string each quote has a backslash before it, so these are keys and never what somebody says.
_OUTPUT = (b'"content":"', b'"text":"', b'"content": "', b'"text": "')
_QUOTE = ord('"')
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
        if not self._held and chunk.startswith(b"data:") and chunk.find(b"\n\n") == chunk.find(b"\n") == len(chunk) - 2:
            return chunk, [chunk[5:-2].strip()]  # one whole event, as most reads bring it
        stream = self._held + chunk if self._held else chunk
        if b"\r" not in stream:
            # As all model servers send them.
            *events, self._held = stream.split(b"\n\n")
            self._check()
            return stream[: len(stream) - len(self._held)], [data for event in events if (data := _data(event))]
        start, payloads = 0, []
        for end in _EVENT_END.finditer(stream):
            if data := _data(stream[start : end.start()]):
                payloads.append(data)
            start = end.end()
        self._held = stream[start:]
        self._check()
        return stream[:start], payloads

    def _check(self) -> None:
        if len(self._held) > self._limit:
            raise EventTooLongError(f"an event is longer than {self._limit} bytes")


def _data(event: bytes) -> bytes:
    """The data of one event: the ``data:`` lines, joined; comments and other fields are left out."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip()
    lines = (line.rstrip(b"\r") for line in event.split(b"\n"))
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


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
        self._cutter = EventCutter()
        self._last: float | None = None
        self._first = 0.0
        self._gaps = 0
        self.done = False
        self.error = ""
        self.first_token: float | None = None
        self.usage: dict[str, Any] | None = None

    def feed(self, part: bytes, now: float) -> tuple[bytes, float, int]:
        """Take in bytes that arrived at `now`: those that may pass, and what `see` says of the events in them.

        Raises:
            EventTooLongError: as `EventCutter.feed`.
        """
        whole, payloads = self._cutter.feed(part)
        return whole, *self.see(payloads, now)

    def see(self, payloads: list[bytes], now: float) -> tuple[float, int]:
        """Take in the events that arrived at `now`: seconds between two tokens, and how many such gaps there were.

        Events that arrive in one read share the time since the read before it equally, so that sums and counts stay
        true where the network or the model server batches.
        """
        tokens = 0
        for payload in payloads:
            tokens += self._token(payload)
        if not tokens:
            return 0.0, 0
        last, self._last = self._last, now
        if last is None:
            self._first, self._gaps = now, tokens - 1
            self.first_token = now - self._started
            return 0.0, tokens - 1
        self._gaps += tokens
        return (now - last) / tokens, tokens

    @property
    def mean_gap(self) -> float | None:
        """Seconds between two tokens of this stream, on average; None where there were not two."""
        return (self._last - self._first) / self._gaps if self._last is not None and self._gaps else None

    def _token(self, payload: bytes) -> bool:
        """Whether the event carries generated output."""
        if _says(payload):
            return True
        if payload == b"[DONE]":
            self.done = True
            return False
        try:
            event = codec.read(payload)
        except (ValueError, RecursionError):
            return False
        if not isinstance(event, dict):
            return False
        if isinstance(usage := event.get("usage"), dict):
            self.usage = usage
        if error := event.get("error"):
            self.error = str(error.get("message", error)) if isinstance(error, dict) else str(error)
        choices = event.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if _has_output(choice):
                    return True
        return False


def _says(payload: bytes) -> bool:
    """Whether an event has output and nothing else that counts, as most have: to find a key costs less than to parse.

    False decides nothing.
    """
    for key in _OUTPUT:
        at = payload.find(key)
        if at >= 0:
            # `find` is several times faster than `in`.
            return payload[at + len(key)] != _QUOTE and payload.find(b'"usage"') < 0 and payload.find(b'"error"') < 0
    return False


def _has_output(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    delta = choice.get("delta")
    if isinstance(delta, dict):
        for name in _TEXT_FIELDS:
            if delta.get(name):
                return True
    return bool(choice.get("text"))


def usage_of(body: bytes) -> Any:
    """The `usage` of an answer in one piece; None where it has none."""
    try:
        document = codec.read(body)
    except (ValueError, RecursionError):
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
