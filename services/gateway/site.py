"""What all connections of clients share: limits, who answers, and who is there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from services.gateway import errors
from services.gateway.call import Call, Work
from services.gateway.flush import Flusher
from services.gateway.timers import Timers


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take. Bytes and seconds."""

    head_bytes: int
    body_bytes: int
    head_seconds: float
    body_seconds: float
    idle_seconds: float
    write_seconds: float
    connections: int


class Open(Protocol):
    """An open connection, to be ended."""

    def drain(self) -> None: ...

    def cut(self, error: errors.ApiError) -> None: ...

    def abort(self) -> None: ...


@dataclass(slots=True)
class Site:
    """What all connections of a server share.

    Args:
        accept: gives a request whose head was read to whoever will answer it; raises `ApiError` to refuse it.
        refused: told of a request that is not HTTP as it should be, before anybody could be found to answer it.
    """

    limits: Limits
    accept: Callable[[Call], Work]
    refused: Callable[[errors.ApiError], None]
    timers: Timers
    flusher: Flusher
    connections: set[Open] = field(default_factory=set)
    draining: bool = False
