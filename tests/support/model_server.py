"""A small real model server for tests of the gateway: ``python -m tests.support.model_server PORT MODEL...``

With a certificate and its key in TEST_CERTIFICATE, one file, it speaks TLS.

Speaks OpenAI's API and does what the prompt says, so that one server shows every way in which an answer goes wrong. The
last message's content (or the prompt) is an order: ``say a b`` answers the words; ``slow a b`` the same with 0.2 s
before each; ``status 500`` answers that status; ``break`` dies in the middle of the answer; ``torn`` dies in the middle
of an event; ``cut`` ends a stream without ``[DONE]``; ``report`` puts an error event into the stream; ``hang`` never
answers; ``stall`` answers its words and then nothing. ``GET /log`` tells what was asked and what was cancelled.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

LOG: dict[str, Any] = {"requests": [], "cancelled": 0}


class BrokenError(Exception):
    """The order was to die here."""


async def infer(request: Request) -> Response:
    body = await request.json()
    LOG["requests"].append({"path": request.url.path, "body": body, "headers": dict(request.headers)})
    if body["model"] not in request.app.state.models:
        return failure(404, f"The model `{body['model']}` does not exist.")
    order, *words = (body["prompt"] if "prompt" in body else body["messages"][-1]["content"]).split()
    if order == "status":
        return failure(int(words[0]), "as ordered", {"retry-after": "7"})
    if order == "hang":
        await forever()
    if body.get("stream"):
        return StreamingResponse(stream(body, order, words), media_type="text/event-stream")
    if order == "break":
        return StreamingResponse(half(), headers={"content-length": "1000"}, media_type="application/json")
    if order == "slow":
        await asyncio.sleep(0.2 * len(words))
    choices = [piece(body, " ".join(words), "message")]
    answer = {**frame(body), "choices": choices, "usage": usage(body, words)}
    return JSONResponse(answer, headers={"x-internal": "not for clients"})


def failure(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    error = {"message": message, "type": "test", "param": None, "code": status}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def frame(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "cmpl-1", "object": "x", "created": 1, "model": body["model"]}


def piece(body: dict[str, Any], text: str, key: str) -> dict[str, Any]:
    chat = {key: {"role": "assistant", "content": text}}
    return {"index": 0, "finish_reason": None, **({"text": text} if "prompt" in body else chat)}


def usage(body: dict[str, Any], words: list[str]) -> dict[str, int]:
    return {"prompt_tokens": 5, "completion_tokens": len(words), "total_tokens": 5 + len(words)}


async def half() -> AsyncIterator[bytes]:
    yield b'{"id": "cmpl-1", "choi'
    raise BrokenError


async def stream(body: dict[str, Any], order: str, words: list[str]) -> AsyncIterator[bytes]:
    yield event({**frame(body), "choices": [piece(body, "", "delta")]})
    for word in words or ["one"]:
        if order == "slow":
            await asyncio.sleep(0.2)
        yield event({**frame(body), "choices": [piece(body, word, "delta")]})
    if order == "torn":
        yield b'data: {"id": "cmpl-1", "cho'
        await asyncio.sleep(0.05)
    if order in ("break", "torn"):
        raise BrokenError
    if order == "stall":
        await forever()
    if order == "report":
        yield event({"error": {"message": "out of memory", "type": "server_error"}})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event({**frame(body), "choices": [], "usage": usage(body, words)})
    if order != "cut":
        yield b"data: [DONE]\n\n"


def event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


async def forever() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        LOG["cancelled"] += 1
        raise


async def watched(request: Request) -> Response:
    """Runs `infer`, and ends it when the client leaves, as vLLM does."""
    work = asyncio.ensure_future(infer(request))
    while not work.done():
        await asyncio.wait((work,), timeout=0.05)
        if not work.done() and await request.is_disconnected():
            work.cancel()
            await asyncio.wait((work,))
            return Response(status_code=499)
    return work.result()


async def log(_: Request) -> Response:
    return JSONResponse(LOG)


def main() -> None:
    port, *models = sys.argv[1:]
    app = Starlette(routes=[
        Route("/v1/chat/completions", watched, methods=["POST"]),
        Route("/v1/completions", watched, methods=["POST"]),
        Route("/log", log),
    ])
    app.state.models = models
    certificate = os.environ.get("TEST_CERTIFICATE")
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="critical", ssl_certfile=certificate)


if __name__ == "__main__":
    main()
