"""A model server that has every answer ready: ``python -m benchmarks.gateway.stub PORT``.

A raw protocol, so that it is not what is measured: 20 events where the body asks for a stream, each in a segment of its
own as a model server sends tokens, else a small JSON document. Every GET is 200, for those that ask for health.
"""

import asyncio
import json
import os
import sys
from typing import Any, cast

import uvloop

EVENTS = 20


def _json(document: dict[str, Any]) -> bytes:
    """Without blanks, as vLLM writes it."""
    return json.dumps(document, separators=(",", ":")).encode()


_DOCUMENT = _json({
    "id": "cmpl-1", "object": "chat.completion", "created": 1, "model": "m@1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "card_arrival"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 4, "total_tokens": 44},
})
_EVENT = b"data: " + _json({
    "id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m@1",
    "choices": [{"index": 0, "delta": {"content": " token"}, "finish_reason": None}],
}) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


JSON_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_DOCUMENT), _DOCUMENT)
STREAM_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + _chunk(_EVENT),
    *[_chunk(_EVENT)] * (EVENTS - 1),
    _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
)


class Stub(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._descriptor: int = transport.get_extra_info("socket").fileno()
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = 0
        if not head.startswith(b"GET"):
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._buffer = b""
        if b'"stream":true' not in rest and b'"stream": true' not in rest:
            self._transport.write(JSON_ANSWER)
            return
        # Past the transport, which would join them into one segment. So little always fits into the kernel's buffer.
        for part in STREAM_ANSWER:
            os.write(self._descriptor, part)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
