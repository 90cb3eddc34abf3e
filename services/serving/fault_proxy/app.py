"""A proxy that passes everything through as it comes, but for the requests that shall fail or wait."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from services.serving.engine.errors import ApiError, unreachable
from services.serving.faults import Faults

_INFERENCE = ("/v1/chat/completions", "/v1/completions")
# They are about one connection, and this proxy has two.
_HOP_BY_HOP = frozenset({
    "connection", "content-length", "date", "host", "keep-alive", "server", "te", "trailer", "transfer-encoding",
    "upgrade",
})


def build_app(engine_url: str) -> FastAPI:
    """The proxy for the model server at `engine_url`, with ``/v1/test/faults`` as the small engine has it."""
    faults = Faults()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with aiohttp.ClientSession(engine_url, timeout=timeout, auto_decompress=False) as session:
            app.state.session = session
            yield

    app = FastAPI(title="tuneloop fault proxy", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(faults.router())

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def forward(request: Request) -> Response:
        body = await request.body()
        try:
            if request.url.path in _INFERENCE:
                await faults.before(_model(body))
            return await _pass(app.state.session, request, body)
        except ApiError as error:
            return JSONResponse(error.body(), status_code=error.status)

    return app


def _model(body: bytes) -> str:
    """The model that a request asks for; "" where it does not say, which the server behind will refuse."""
    try:
        return str(json.loads(body)["model"])
    except (ValueError, KeyError, TypeError):
        return ""


async def _pass(session: aiohttp.ClientSession, request: Request, body: bytes) -> Response:
    headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
    try:
        answer = await session.request(request.method, request.url.path, data=body, headers=headers,
                                       params=dict(request.query_params))
    except aiohttp.ClientError as error:
        raise unreachable(f"the model server does not answer: {error}") from error

    async def chunks() -> AsyncIterator[bytes]:
        # Also where the client has left: the connection is closed then, and the model server stops its work.
        async with answer:
            async for chunk in answer.content.iter_any():
                yield chunk

    kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
    return StreamingResponse(chunks(), status_code=answer.status, headers=kept)
