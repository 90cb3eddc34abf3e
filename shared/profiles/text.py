"""From a text to one bucket. Pure.

A text gives one word and one n-gram, not all of them: words of one text depend on each other, and a test that counts
each of them as an observation takes one long text for much evidence. Which one is chosen by a hash of the text.
"""

import hashlib
import re

HASH_BUCKETS = 64
NGRAM = 3
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def hash_bucket(token: str, buckets: int) -> int:
    """The bucket of a token, the same on every machine and in every release."""
    return _number(token) % buckets


def word_bucket(text: str) -> int:
    """The bucket of one of the text's words; that of the empty word where it has none."""
    return hash_bucket(_chosen("word", text, words(text)), HASH_BUCKETS)


def ngram_bucket(text: str) -> int:
    """The bucket of one of the text's character n-grams, in lower case."""
    lower = text.lower()
    place = _number(f"ngram\0{text}") % max(1, len(lower) - NGRAM + 1)
    return hash_bucket(lower[place : place + NGRAM], HASH_BUCKETS)


def _chosen(purpose: str, text: str, tokens: list[str]) -> str:
    return tokens[_number(f"{purpose}\0{text}") % len(tokens)] if tokens else ""


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())
