"""The engine's HTTP face: OpenAI's API, vLLM's adapter calls, health and metrics."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from jinja2 import TemplateError

from services.serving.engine.adapters import Adapters
from services.serving.engine.embeddings import add_embedding_routes
from services.serving.engine.errors import ApiError, bad_request, internal
from services.serving.engine.formats import DONE, Answer, Kind, Usage, sse
from services.serving.engine.generation import Delta, Generation
from services.serving.engine.metrics import REQUESTS, TOKENS
from services.serving.engine.model import Model
from services.serving.engine.protocol import (
    ChatRequest,
    CompletionRequest,
    LoadRequest,
    SamplingRequest,
    UnloadRequest,
    parse,
    parse_sampling,
)
from services.serving.engine.sampling import Sampler, Sampling
from services.serving.engine.text import TextStream
from services.serving.engine.worker import Worker
from services.serving.faults import Faults
from shared.http import health_router
from shared.prompts import prompt_ids
from shared.telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class Engine:
    """What the routes work with. `alive` tells whether the worker's thread still runs."""

    model: Model
    worker: Worker
    adapters: Adapters
    faults: Faults | None
    alive: Callable[[], bool]


def build_app(engine: Engine) -> FastAPI:
    """The engine's application."""
    app = FastAPI(title="tuneloop engine", redoc_url=None)
    app.include_router(health_router(lambda: "" if engine.alive() else "the worker thread has ended"))
    if engine.faults is not None:
        app.include_router(engine.faults.router())
    app.add_exception_handler(ApiError, _answer_error)
    _add_model_routes(app, engine)
    _add_generation_routes(app, engine)
    add_embedding_routes(app, engine)
    return app


def _add_model_routes(app: FastAPI, engine: Engine) -> None:
    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if engine.alive() else 503)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": engine.adapters.cards()}

    @app.post("/v1/load_lora_adapter", response_class=PlainTextResponse)
    async def load(request: Request) -> str:
        return await engine.adapters.load(parse(LoadRequest, await _json(request)))

    @app.post("/v1/unload_lora_adapter", response_class=PlainTextResponse)
    async def unload(request: Request) -> str:
        return await engine.adapters.unload(parse(UnloadRequest, await _json(request)))


def _add_generation_routes(app: FastAPI, engine: Engine) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = parse_sampling(ChatRequest, await _json(request))
        return await _answer(engine, request, Ask("chat", body, body.token_limit, _chat_prompt(engine, body)))

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body = parse_sampling(CompletionRequest, await _json(request))
        return await _answer(engine, request, Ask("text", body, body.token_limit, _text_prompt(engine, body)))


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}") from error


@dataclass(frozen=True)
class Ask:
    """What a client wants: the prompt's tokens, and at most `limit` more of them."""

    kind: Kind
    body: SamplingRequest
    limit: int | None
    prompt: list[int]


def _chat_prompt(engine: Engine, body: ChatRequest) -> list[int]:
    messages = [{"role": message.role, "content": message.text()} for message in body.messages]
    try:
        return prompt_ids(engine.model.tokenizer, messages)
    except (TemplateError, ValueError) as error:
        raise bad_request(f"the chat template refuses these messages: {error}", "messages") from error


def _text_prompt(engine: Engine, body: CompletionRequest) -> list[int]:
    ids = body.prompt if isinstance(body.prompt, list) else list(engine.model.tokenizer(body.prompt)["input_ids"])
    size = len(engine.model.tokenizer)
    if not ids or not all(0 <= token < size for token in ids):
        raise bad_request(f"prompt must have at least one token, each from 0 to {size - 1}", "prompt")
    return ids


async def _answer(engine: Engine, request: Request, ask: Ask) -> Response:
    # A name that is not listed would let clients make up label values.
    code, name = 500, "unknown"
    try:
        engine.adapters.find(ask.body.model)
        name = ask.body.model
        if engine.faults is not None:
            await engine.faults.before(name)
        pending = _start(engine, ask)
        response = await (_stream(engine, pending) if ask.body.stream else _whole(engine, pending, request))
        code = response.status_code
    except ApiError as error:
        code = error.status
        raise
    finally:
        REQUESTS.labels(name, str(code)).inc()
    return response


@dataclass(frozen=True)
class Pending:
    """A submitted generation and the queue that its news arrive in; a queue holds at most one `Delta` per token."""

    ask: Ask
    generation: Generation
    news: "asyncio.Queue[Delta]"


def _start(engine: Engine, ask: Ask) -> Pending:
    body, limit = ask.body, ask.limit
    room = engine.model.max_model_len - len(ask.prompt)
    if room < 1 or (limit or 0) > room:
        raise bad_request(
            f"This model's maximum context length is {engine.model.max_model_len} tokens. However, you requested "
            f"{limit or 1} output tokens and your prompt contains {len(ask.prompt)} input tokens. Reduce one of them.",
            "max_tokens" if room >= 1 else "input_tokens",
        )
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[Delta] = asyncio.Queue()

    def emit(delta: Delta) -> None:
        with suppress(RuntimeError):  # the loop has ended, and so has everybody who waited
            loop.call_soon_threadsafe(news.put_nowait, delta)

    generation = Generation(
        prompt=ask.prompt, adapter=engine.adapters.find(body.model), limit=limit or room, eos=engine.model.eos,
        sampler=Sampler(Sampling(body.temperature, body.top_p, body.seed)),
        text=TextStream(engine.model.decode, ask.prompt, body.stop), emit=emit,
    )
    engine.worker.submit(generation)
    return Pending(ask, generation, news)


async def _whole(engine: Engine, pending: Pending, request: Request) -> Response:
    """The whole answer at once; ends early, unheard, where the client goes away."""
    text = ""
    async with _until_disconnect(engine, pending, request):
        while True:
            delta = await pending.news.get()
            text += delta.text
            if delta.error is not None:
                raise internal(delta.error)
            if delta.finish_reason is not None:
                break
    usage = _count(pending, delta)
    return JSONResponse(_describe(pending.ask).whole(text, delta.finish_reason, usage))


@asynccontextmanager
async def _until_disconnect(engine: Engine, pending: Pending, request: Request) -> AsyncIterator[None]:
    """Cancel the generation when the client closes its connection, or when the block ends for whatever reason."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        engine.worker.cancel(pending.generation)
        pending.news.put_nowait(Delta("", None, 0, error="the client went away"))

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        engine.worker.cancel(pending.generation)


async def _stream(engine: Engine, pending: Pending) -> Response:
    """Server-sent events. Waits for the first news, so that a failure before any token is a plain error answer."""
    try:
        first = await pending.news.get()
    except asyncio.CancelledError:
        engine.worker.cancel(pending.generation)
        raise
    if first.error is not None:
        raise internal(first.error)
    return StreamingResponse(
        _events(engine, pending, first), media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _events(engine: Engine, pending: Pending, first: Delta) -> AsyncIterator[bytes]:
    answer = _describe(pending.ask)
    delta = first
    try:
        if opening := answer.opening():
            yield opening
        while True:
            if delta.error is not None:
                yield sse(internal(delta.error).body())
                break
            yield answer.piece(delta.text, delta.finish_reason)
            if delta.last:
                break
            delta = await pending.news.get()
        usage = _count(pending, delta)
        if pending.ask.body.include_usage and delta.error is None:
            yield answer.usage_chunk(usage)
        yield DONE
    finally:
        # Also where the client has gone: the server closes this generator then.
        engine.worker.cancel(pending.generation)


def _describe(ask: Ask) -> Answer:
    prefix = "chatcmpl" if ask.kind == "chat" else "cmpl"
    return Answer(ask.kind, f"{prefix}-{uuid.uuid4().hex}", ask.body.model, int(time.time()), ask.body.include_usage)


def _count(pending: Pending, last: Delta) -> Usage:
    model = pending.ask.body.model
    usage = Usage(len(pending.generation.prompt), last.completion_tokens)
    TOKENS.labels(model, "prompt").inc(usage.prompt_tokens)
    TOKENS.labels(model, "completion").inc(usage.completion_tokens)
    return usage


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class alone
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    return JSONResponse(error.body(), status_code=error.status, headers=headers)
