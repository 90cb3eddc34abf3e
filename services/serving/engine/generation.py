"""One request's way through the engine: from its prompt to its last token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.serving.engine.formats import FinishReason
from services.serving.engine.sampling import Sampler
from services.serving.engine.text import TextStream


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter.

    Attributes:
        name: what clients ask for.
        key: what PEFT knows it by; never used twice, so that a name can come back with other weights.
        path: the folder it was loaded from.
        created: Unix seconds of the load.
    """

    name: str
    key: str
    path: str
    created: int


@dataclass(frozen=True)
class Delta:
    """News about a running request.

    Attributes:
        completion_tokens: drawn so far, the end-of-turn token included.
        error: why the request failed; nothing follows.
    """

    text: str
    finish_reason: FinishReason | None
    completion_tokens: int
    error: str | None = None

    @property
    def last(self) -> bool:
        return self.finish_reason is not None or self.error is not None


class Generation:
    """A request that the worker decodes.

    Args:
        prompt: its tokens.
        adapter: whose answer is asked for; None for the base model.
        limit: most tokens to draw.
        emit: takes each `Delta`, on the worker's thread.
    """

    def __init__(
        self, *, prompt: Sequence[int], adapter: Adapter | None, limit: int, eos: frozenset[int],
        sampler: Sampler, text: TextStream, emit: Callable[[Delta], None],
    ) -> None:
        self.prompt = list(prompt)
        self.adapter = adapter
        self.tokens = 0
        # Set by the HTTP side when nobody waits for the answer any more; the worker then drops the request.
        self.cancelled = False
        self.sampler = sampler
        self._limit = limit
        self._eos = eos
        self._text = text
        self._emit = emit

    def accept(self, token: int) -> bool:
        """Take the next token; whether the answer is complete."""
        self.tokens += 1
        reason: FinishReason | None = None
        if token in self._eos:
            text, reason = self._text.finish(), "stop"
        else:
            text = self._text.push(token)
            if self._text.stopped:
                reason = "stop"
            elif self.tokens >= self._limit:
                text, reason = text + self._text.finish(), "stop" if self._text.stopped else "length"
        if text or reason:
            self._emit(Delta(text, reason, self.tokens))
        return reason is not None

    def fail(self, message: str) -> None:
        """Tell the client that no more comes."""
        self._emit(Delta("", None, self.tokens, error=message))
