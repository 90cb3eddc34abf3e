"""Reading a file line by line when a line may be of any length."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# What is read at once of the rest of a line that is too long anyway.
_SKIP_BYTES = 1 << 20


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        number: as editors count, from 1, blank lines included.
        offset: of its first byte in the file.
        size: in bytes, without its end.
        data: without its end; None where it is longer than allowed.
    """

    number: int
    offset: int
    size: int
    data: bytes | None


def read_lines(file: BinaryIO, max_bytes: int) -> Iterator[Line]:
    """The lines of a file, keeping at most `max_bytes` of one in memory. ``\\n`` and ``\\r\\n`` end a line."""
    number = offset = 0
    while start := file.readline(max_bytes + len(b"\r\n")):
        number += 1
        length, end = len(start), start[-2:]
        while not end.endswith(b"\n") and (rest := file.readline(_SKIP_BYTES)):
            length, end = length + len(rest), (end + rest)[-2:]
        size = length - (2 if end == b"\r\n" else 1 if end.endswith(b"\n") else 0)
        yield Line(number, offset, size, start[:size] if size <= max_bytes else None)
        offset += length
