"""From the bytes of a request and its answer to a conversation that may be kept. Pure.

Only plain text conversations become samples: what cannot be told whole is not told at all, because half a conversation
is bad data to evaluate or to train on.
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

from services.gateway.sse import EventCutter
from services.gateway.surprisal import mean_nats, token_nats
from shared.events import SampledMessage
from shared.redact import redact

Api = Literal["chat", "completion"]
# Why there is no sample of a request that was drawn; also label values of a metric.
Reason = Literal["too_large", "not_text", "unreadable"]


class NotSampledError(Exception):
    """There is no sample, for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Conversation:
    """What was said.

    Attributes:
        redacted: how much of each kind was scrubbed; None where it was not scrubbed.
        surprisal: mean negative log-probability of the answer's tokens, in nats; None where it does not say.
    """

    api: Api
    messages: tuple[SampledMessage, ...]
    answer: str
    finish_reason: str | None
    streamed: bool
    redacted: dict[str, int] | None = None
    surprisal: float | None = None


@dataclass(frozen=True)
class _Answer:
    """The first choice of an answer."""

    text: str
    finish_reason: str | None
    nats: list[float]


def conversation(request: bytes, response: bytes) -> Conversation:
    """What a request and its whole answer say, of the first choice.

    Raises:
        NotSampledError: they say more than text (images, tools), or are not what they should be.
    """
    asked = _object(request)
    api, messages = _question(asked)
    # By what came, and not by what was asked for: not every model server can stream everything.
    streamed = not response.lstrip().startswith(b"{")
    answer = _streamed(response) if streamed else _whole(_object(response))
    return Conversation(
        api, messages, answer.text, answer.finish_reason, streamed, surprisal=mean_nats(answer.nats)
    )


def scrub(said: Conversation) -> Conversation:
    """The same without personal data and secrets, as far as `shared.redact` knows them."""
    found: Counter[str] = Counter()

    def clean(text: str) -> str:
        result = redact(text)
        found.update(result.found)
        return result.text

    messages = tuple(SampledMessage(role=message.role, content=clean(message.content)) for message in said.messages)
    answer = clean(said.answer)
    return replace(said, messages=messages, answer=answer, redacted=dict(found))


def _question(asked: dict[str, Any]) -> tuple[Api, tuple[SampledMessage, ...]]:
    if asked.get("tools") or asked.get("functions"):
        raise NotSampledError("not_text")
    if "messages" in asked:
        messages = asked["messages"]
        if not isinstance(messages, list) or not messages:
            raise NotSampledError("unreadable")
        return "chat", tuple(_message(message) for message in messages)
    prompt = asked.get("prompt")
    if not isinstance(prompt, str):
        raise NotSampledError("not_text" if isinstance(prompt, list) else "unreadable")
    return "completion", (SampledMessage(role="user", content=prompt),)


def _message(message: Any) -> SampledMessage:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise NotSampledError("unreadable")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text_part(part) for part in content)
    if not isinstance(content, str) or message.get("tool_calls"):
        raise NotSampledError("not_text")
    return SampledMessage(role=message["role"], content=content)


def _text_part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(text := part.get("text"), str):
        return text
    raise NotSampledError("not_text")


def _whole(answered: dict[str, Any]) -> _Answer:
    choice = _first_choice(answered)
    if choice is None:
        raise NotSampledError("unreadable")
    return _Answer(_said(choice, "message"), _reason(choice), token_nats(choice))


def _streamed(response: bytes) -> _Answer:
    _, payloads = EventCutter(limit=len(response)).feed(response)
    parts: list[str] = []
    nats: list[float] = []
    finish_reason = None
    for payload in payloads:
        choice = None if payload == b"[DONE]" else _first_choice(_object(payload))
        if choice is not None:
            parts.append(_said(choice, "delta"))
            nats += token_nats(choice)
            finish_reason = _reason(choice) or finish_reason
    if not payloads or payloads[-1] != b"[DONE]":
        raise NotSampledError("unreadable")
    return _Answer("".join(parts), finish_reason, nats)


def _first_choice(document: dict[str, Any]) -> dict[str, Any] | None:
    choices = document.get("choices")
    if not isinstance(choices, list):
        return None
    return next((choice for choice in choices if isinstance(choice, dict) and choice.get("index", 0) == 0), None)


def _said(choice: dict[str, Any], key: str) -> str:
    if isinstance(text := choice.get("text"), str):
        return text
    message = choice.get(key)
    if not isinstance(message, dict):
        raise NotSampledError("unreadable")
    if message.get("tool_calls") or message.get("function_call"):
        raise NotSampledError("not_text")
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _reason(choice: dict[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    return reason if isinstance(reason, str) else None


def _object(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NotSampledError("unreadable") from error
    if not isinstance(document, dict):
        raise NotSampledError("unreadable")
    return document
