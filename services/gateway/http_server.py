"""Listens, and ends in order: no new connections, idle ones closed, requests in flight finished or cut with a word."""

import asyncio
import socket
from contextlib import suppress

from services.gateway import errors
from services.gateway.connection import ClientConnection
from services.gateway.site import Site

_FLUSH_SECONDS = 1.0
_BACKLOG = 2048


class HttpServer:
    """Serves a site's calls on a listening socket."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Take connections from now on."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self._site), sock=listener, backlog=_BACKLOG
        )

    async def stop(self, grace_seconds: float) -> None:
        """Take no more; return when all are closed. What takes longer than `grace_seconds` is cut and told so."""
        if self._server is not None:
            self._server.close()
        site = self._site
        site.draining = True
        for connection in tuple(site.connections):
            connection.drain()
        await self._until_closed(grace_seconds)
        for connection in tuple(site.connections):
            connection.cut(errors.shutting_down())
        # A client that reads slowly must not keep the process alive.
        await self._until_closed(_FLUSH_SECONDS)
        for connection in tuple(site.connections):
            connection.abort()
        await self._until_closed(_FLUSH_SECONDS)

    async def _until_closed(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._site.connections:
                    await asyncio.sleep(0.02)
