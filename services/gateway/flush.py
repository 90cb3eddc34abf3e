"""What one turn of the event loop writes goes out at its end: one system call a connection, however many parts.

A write into a socket wakes whoever waits at its other end, and on a busy gateway that costs more than the write. Those
who are written to together wake once and find all of it.
"""

import asyncio
from typing import cast

from shared.telemetry import get_logger

log = get_logger(__name__)


class Flusher:
    """The writers that have something to send in this turn. For one event loop, found by the first that writes."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Writer] = []

    def soon(self, writer: "Writer") -> None:
        """Flush `writer` when the events of this turn are handled."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(writer)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for writer in waiting:
            try:
                writer.flush()
            except Exception:
                # A mistake of ours must not cost the others their bytes.
                log.exception("a connection could not be written to")
                writer.abort()


class Writer:
    """The sending half of a transport."""

    __slots__ = ("_flusher", "_parts", "_transport")

    def __init__(self, flusher: Flusher, transport: asyncio.BaseTransport) -> None:
        self._flusher = flusher
        # uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._parts: list[bytes] = []

    @property
    def waiting(self) -> bool:
        """Something was written and has not been sent."""
        return bool(self._parts)

    def write(self, data: bytes) -> None:
        """Send bytes at the end of this turn; the transport pauses its protocol where they are not taken."""
        if not self._parts:
            self._flusher.soon(self)
        self._parts.append(data)

    def flush(self) -> None:
        """Send what was written, now."""
        parts = self._parts
        if not parts:
            return
        self._parts = []
        if not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        """Send what was written, then close."""
        self.flush()
        self._transport.close()

    def end(self) -> None:
        """Send what was written, then say that nothing follows."""
        self.flush()
        self._transport.write_eof()

    def abort(self) -> None:
        """Close without sending anything more."""
        self._parts.clear()
        self._transport.abort()
