"""Connections to model servers, kept alive between requests.

A server closes idle connections (uvicorn, and with it vLLM, after 5 s), and a request sent into a closing one may or
may not have been read. So idle ones are let go earlier, and before a kept one is used the kernel is asked whether its
server has said anything, for which an idle one has no reason but to close; then nothing was sent, and another
connection is taken. What is left is a race of microseconds, whose loser is an error: what was sent is never sent again.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from services.gateway.flush import Flusher
from services.gateway.link import Link
from services.gateway.timers import Timers

KEEPALIVE_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model server is: `authority` is the ``host`` header, `prefix` what comes before each path."""

    host: str
    port: int
    authority: bytes
    prefix: bytes
    tls: bool


@lru_cache(maxsize=4096)
def origin_of(url: str) -> Origin:
    """The origin of a replica's URL."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    authority = parts.netloc.rpartition("@")[2].encode("idna" if not host.isascii() else "ascii")
    return Origin(host, parts.port or (443 if tls else 80), authority, parts.path.rstrip("/").encode(), tls)


class Pool:
    """Idle connections by URL, and the way to new ones.

    Args:
        connect_seconds: time to connect.
        read_seconds: silence that ends a request.
    """

    def __init__(self, timers: Timers, flusher: Flusher, *, connect_seconds: float, read_seconds: float) -> None:
        self._timers = timers
        self._flusher = flusher
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._idle: dict[str, list[Link]] = {}
        self._tls: ssl.SSLContext | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self.open: set[Link] = set()

    def take(self, url: str) -> Link | None:
        """A kept connection that is still good; the one used last, so that the others may grow old."""
        idle = self._idle.get(url)
        while idle:
            link = idle.pop()
            if link.usable():
                return link
            link.abort()
        return None

    def connect(
        self, url: str, connected: Callable[[Link], None], refused: Callable[[Exception], None]
    ) -> asyncio.Task[None]:
        """Make a new connection, and say how it went; cancelling the task says nothing."""
        async def connect() -> None:
            try:
                async with asyncio.timeout(self._connect_seconds):
                    link = await self._open(url)
            except (OSError, ValueError) as error:
                refused(error)
            else:
                connected(link)

        task = asyncio.get_running_loop().create_task(connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return task

    def opened(self, link: Link) -> None:
        """A connection is there."""
        self.open.add(link)
        self._timers.add(link)

    def keep(self, link: Link) -> None:
        """Take back a connection whose answer was read to its end."""
        self._idle.setdefault(link.url, []).append(link)

    def forget(self, link: Link) -> None:
        """A connection is gone."""
        self.open.discard(link)
        self._timers.discard(link)
        idle = self._idle.get(link.url)
        if idle and link in idle:
            idle.remove(link)
        if not idle:
            self._idle.pop(link.url, None)

    def close(self) -> None:
        """Close everything."""
        for task in tuple(self._connecting):
            task.cancel()
        for link in tuple(self.open):
            link.abort()

    async def _open(self, url: str) -> Link:
        origin = origin_of(url)
        link = Link(url, self, self._flusher, read_seconds=self._read_seconds, idle_seconds=KEEPALIVE_SECONDS)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: link, origin.host, origin.port, ssl=self._context() if origin.tls else None
            )
        except BaseException:
            # uvloop closes a connection whose making was cancelled, and never tells its protocol.
            self.forget(link)
            raise
        return link

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
