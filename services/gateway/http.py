"""The few ASGI words that the data path speaks: read a body, send an answer, notice that the client left."""

import asyncio
from collections.abc import Iterable

from starlette.types import Receive, Scope, Send

from services.gateway import errors
from services.gateway.request import Headers

RawHeaders = list[tuple[bytes, bytes]]


class ClientLeftError(Exception):
    """The client closed its connection before its request was whole."""


def headers_of(scope: Scope) -> Headers:
    """Headers by lower-case name; the last of several equal ones."""
    return dict(scope["headers"])


async def read_body(receive: Receive, headers: Headers, *, limit: int, seconds: float) -> bytes:
    """The request's body.

    Raises:
        ApiError: 413 where it is longer than `limit`, 408 where it takes longer than `seconds`.
        ClientLeftError: the client went away.
    """
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > limit:
        raise errors.too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            return await _read(receive, limit)
    except TimeoutError:
        raise errors.slow_body(seconds) from None


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise errors.too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def until_client_left(receive: Receive) -> None:
    """Return when the client closes its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_head(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Begin an answer."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def send_body(send: Send, body: bytes, *, more: bool = False) -> None:
    """Send a part of the body; without `more`, the last one."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def send_error(send: Send, error: errors.ApiError, extra: RawHeaders) -> None:
    """Answer with one of the gateway's own errors."""
    body = error.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if error.status in (408, 413):
        # The rest of the body may still be on its way; it must not be taken for the next request.
        headers.append((b"connection", b"close"))
    await send_head(send, error.status, headers)
    await send_body(send, body)
