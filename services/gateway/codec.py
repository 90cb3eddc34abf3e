"""JSON at the speed that every request and every event of a stream needs it, without changing what it means.

orjson is several times faster than the standard library and stricter: it refuses lone surrogates, which JSON has, and
reads integers of more than 64 bits as floats, which would change them. What it would treat otherwise, the standard
library treats.
"""

import json
import math
from typing import Any

import orjson

# Digits as zeros and all else as blanks: then a run of digits is a substring, which is found faster than a pattern.
_DIGITS = bytes(ord("0") if chr(code).isdigit() and code < 128 else ord(" ") for code in range(256))
_LONG_NUMBER = b"0" * 19


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return number


# Made once: json.loads and json.dumps make new ones at each call that has options.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def read(raw: bytes) -> Any:
    """The value of a JSON document, to look at: integers of more than 64 bits are floats.

    Raises:
        ValueError: it is none; the message says where and why.
        RecursionError: it is nested too deeply.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        # Perhaps only to orjson's taste; else this says what is wrong.
        return _read_slowly(raw)


def read_exactly(raw: bytes) -> Any:
    """The value of a JSON document, to be written again.

    Raises:
        ValueError, RecursionError: as for `read`.
    """
    # `find` is faster than `in`, which looks for the best algorithm first.
    return _read_slowly(raw) if raw.translate(_DIGITS).find(_LONG_NUMBER) >= 0 else read(raw)


def _read_slowly(raw: bytes) -> Any:
    return _DECODER.decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))


def write(value: Any) -> bytes:
    """A document of a value that `read_exactly` gave.

    Raises:
        ValueError, RecursionError: it has no document.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _ENCODER.encode(value).encode()
