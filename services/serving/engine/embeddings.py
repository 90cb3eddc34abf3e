"""``POST /v1/embeddings``: the base model's mean hidden state, for comparing texts without another model.

It is no retrieval model; drift compares distributions of such vectors.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from services.serving.engine.errors import bad_request
from services.serving.engine.protocol import parse

if TYPE_CHECKING:
    from services.serving.engine.app import Engine

_MAX_TEXTS = 256


class EmbeddingRequest(BaseModel):
    """The part of OpenAI's request that can be done."""

    model_config = ConfigDict(extra="forbid")

    model: str
    input: str | list[str] = Field(min_length=1)
    encoding_format: Literal["float"] = "float"
    user: str = ""


def add_embedding_routes(app: FastAPI, engine: "Engine") -> None:
    """Add the route. Each text is a job of its own, so that running generations go on in between."""

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> dict[str, Any]:
        body = parse(EmbeddingRequest, await request.json())
        if engine.adapters.find(body.model) is not None:
            raise bad_request(f"embeddings are the base model's; {body.model} is an adapter", "model")
        texts = [body.input] if isinstance(body.input, str) else body.input
        if len(texts) > _MAX_TEXTS:
            raise bad_request(f"{len(texts)} texts are too many at once; at most {_MAX_TEXTS}", "input")
        tokens = [_tokens(engine, text) for text in texts]
        vectors = [
            await asyncio.wrap_future(engine.worker.call(lambda ids=ids: engine.model.embed(ids)))  # type: ignore[misc]
            for ids in tokens
        ]
        used = sum(len(ids) for ids in tokens)
        return {
            "object": "list", "model": body.model, "usage": {"prompt_tokens": used, "total_tokens": used},
            "data": [
                {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
            ],
        }


def _tokens(engine: "Engine", text: str) -> list[int]:
    """The text's first tokens, as many as the model reads."""
    ids = list(engine.model.tokenizer(text)["input_ids"])[: engine.model.max_model_len]
    if not ids:
        raise bad_request("each text must have at least one token", "input")
    return ids
