"""From tokens to text, piece by piece: whole characters only, and never past a stop string."""

from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]

# Tokens before the answer that decide how its first token is written (a leading space, in some tokenizers).
CONTEXT_TOKENS = 5
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Turns one answer's tokens into text.

    Args:
        decode: tokens to text.
        prompt: the prompt's tokens; the last few are context for the first token of the answer.
        stop: strings that end the answer and are not part of it.
    """

    def __init__(self, decode: Decode, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._ids = list(prompt[-CONTEXT_TOKENS:])
        self._prefix = 0
        self._read = len(self._ids)
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take a token; the text that can be given out now. Sets `stopped` when a stop string is complete."""
        self._ids.append(token)
        return self._release(self._decode_new(final=False), final=False)

    def finish(self) -> str:
        """The text that was held back, when no more tokens come."""
        return "" if self.stopped else self._release(self._decode_new(final=True), final=True)

    def _decode_new(self, *, final: bool) -> str:
        # Decoding from a little before the new tokens keeps what they merge with, and costs the same at any length.
        before = self._decode(self._ids[self._prefix : self._read])
        after = self._decode(self._ids[self._prefix :])
        if len(after) <= len(before) or (after.endswith(_INCOMPLETE) and not final):
            return ""
        self._prefix, self._read = self._read, len(self._ids)
        return after[len(before) :]

    def _release(self, text: str, *, final: bool) -> str:
        text = self._held + text
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        keep = 0 if final else max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that may become `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
