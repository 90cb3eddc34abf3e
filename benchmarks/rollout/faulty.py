"""A model server whose base model works and whose adapters all fail: ``python -m benchmarks.rollout.faulty PORT``."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


async def answer(request: Request) -> Response:
    """200 for the base model, 500 for every adapter."""
    model = (await request.json())["model"]
    if "@" in model:
        error = {"message": "as ordered", "type": "server_error", "param": None, "code": 500}
        return JSONResponse({"error": error}, status_code=500)
    message = {"role": "assistant", "content": "card_arrival"}
    return JSONResponse({
        "id": "cmpl-1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 4, "total_tokens": 44},
    })


async def health(_: Request) -> Response:
    return PlainTextResponse("ok\n")


if __name__ == "__main__":
    routes = [Route("/v1/chat/completions", answer, methods=["POST"]), Route("/health", health)]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
