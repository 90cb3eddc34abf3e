"""Kafka headers as text, so that a database column holds them exactly.

JSON pairs, because Kafka allows a name twice; bytes as Latin-1, which maps each byte to one character and back.
"""

import json
from collections.abc import Iterable

Headers = tuple[tuple[str, bytes], ...]


def dump_headers(headers: Iterable[tuple[str, bytes]]) -> str:
    """The text of some headers. A header without value is kept as an empty one."""
    return json.dumps([[name, (value or b"").decode("latin-1")] for name, value in headers])


def load_headers(text: str) -> Headers:
    """The headers in a text of `dump_headers`."""
    return tuple((name, value.encode("latin-1")) for name, value in json.loads(text))
