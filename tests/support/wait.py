"""Waiting for real processes without guessing how long they take."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T | None], *, timeout: float = 120.0, interval: float = 0.05, what: str = "") -> T:
    """The first truthy result of `probe`, asked every `interval` seconds for at most `timeout` seconds.

    A test gives no time of its own unless it needs more: how long something takes says how busy the machine is.

    Raises:
        AssertionError: with the last result and the last error, if it never came.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            result = probe()
            if result:
                return result
            last = result
        except (AssertionError, OSError, LookupError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or probe} did not happen within {timeout} s; last: {last!r}")
        time.sleep(interval)
