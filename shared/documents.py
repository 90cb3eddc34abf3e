"""Texts as tokens, for continued pre-training and for measuring how well a model predicts them.

Pure functions over a tokenizer; nothing here imports torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from shared.prompts import Tokenizer


def document_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, with what the tokenizer itself writes around a text, such as a first token.

    What looks like a special token in a text is text: a page about chat templates must not end a document.
    """
    encoded = tokenizer(list(texts), split_special_tokens=True, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def windows(documents: Iterable[Iterable[int]], *, start: int, length: int) -> Iterator[list[int]]:
    """Cuts the stream of all documents into pieces that a model reads at once.

    A window is one token of context and up to ``length - 1`` tokens to predict. The context is the token before them
    in the stream (`start` before the first), so each token of the stream is predicted in exactly one window: cut
    without it, the first token of each window would be predicted in none. Only the last window may be shorter, and
    none has nothing to predict.

    Args:
        length: of a window in tokens, at least 2.
    """
    context, ahead = start, []
    for token in chain.from_iterable(documents):
        ahead.append(token)
        if len(ahead) == length - 1:
            yield [context, *ahead]
            context, ahead = token, []
    if ahead:
        yield [context, *ahead]
