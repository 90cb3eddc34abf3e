"""Answers in OpenAI's form: whole, or as the chunks of a server-sent event stream."""

import json
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["chat", "text"]
FinishReason = Literal["stop", "length"]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Usage:
    """Tokens of one request; the end-of-turn token counts."""

    prompt_tokens: int
    completion_tokens: int

    def body(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }


@dataclass(frozen=True)
class Answer:
    """The parts that all messages about one request share.

    Attributes:
        created: Unix seconds.
        include_usage: whether each chunk carries ``usage`` (null but for the last), as OpenAI does.
    """

    kind: Kind
    id: str
    model: str
    created: int
    include_usage: bool = False

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
        if self.kind == "chat":
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        return {**self._head(streamed=False), "choices": [choice], "usage": usage.body()}

    def opening(self) -> bytes:
        """The first chunk of a chat stream, which names the role; a text stream has none."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None) if self.kind == "chat" else b""

    def piece(self, text: str, reason: FinishReason | None) -> bytes:
        """A chunk with more text, the last one with the reason for the end."""
        if self.kind == "text":
            return self._chunk({"text": text}, reason)
        return self._chunk({"delta": {"content": text} if text else {}}, reason)

    def usage_chunk(self, usage: Usage) -> bytes:
        """The chunk without choices that ends a stream which asked for its usage."""
        return sse({**self._head(streamed=True), "choices": [], "usage": usage.body()})

    def _chunk(self, content: dict[str, Any], reason: FinishReason | None) -> bytes:
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self.include_usage else {}
        return sse({**self._head(streamed=True), "choices": [choice], **usage})

    def _head(self, *, streamed: bool) -> dict[str, Any]:
        kinds = {"chat": "chat.completion.chunk" if streamed else "chat.completion", "text": "text_completion"}
        return {"id": self.id, "object": kinds[self.kind], "created": self.created, "model": self.model}


def sse(body: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def model_card(name: str, *, created: int, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    """One entry of ``GET /v1/models``; an adapter's `parent` is the base model and its `root` the path of its files."""
    return {
        "id": name, "object": "model", "created": created, "owned_by": "tuneloop", "root": root, "parent": parent,
        "max_model_len": max_model_len, "permission": [],
    }
