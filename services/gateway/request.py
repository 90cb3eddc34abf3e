"""What the gateway reads from a request, and what it sends on. Pure: bytes and headers in, values out."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from services.gateway import codec, errors

Headers = Mapping[bytes, bytes]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class InferenceRequest(NamedTuple):
    """An OpenAI request: the route that it names, its `user` (empty where it names none), and all of its fields."""

    route: str
    user: str
    document: dict[str, Any]

    def body_for(self, upstream_model: str) -> bytes:
        """The JSON to send to a model server: the client's, but for the name of the model.

        Raises:
            ApiError: 400, it cannot be written again.
        """
        try:
            return codec.write({**self.document, "model": upstream_model})
        except (ValueError, RecursionError) as error:
            raise errors.invalid_json(str(error)) from error


def parse(raw: bytes) -> InferenceRequest:
    """The request in a body.

    Raises:
        ApiError: 400, naming what is wrong and where.
    """
    try:
        document = codec.read_exactly(raw)
    except RecursionError:
        raise errors.invalid_json("it is nested too deeply") from None
    except ValueError as error:
        raise errors.invalid_json(str(error)) from error
    if not isinstance(document, dict):
        raise errors.invalid_json(f"it is a JSON {type(document).__name__}")
    route = document.get("model")
    if not isinstance(route, str) or not route:
        raise errors.invalid_field("model", "give the name of a route; GET /v1/models lists them")
    user = document.get("user")
    if user is not None and not isinstance(user, str):
        raise errors.invalid_field("user", "must be a string")
    return InferenceRequest(route, user or "", document)


def _ids(random: Callable[[int], bytes]) -> Iterator[str]:
    """Ids of 128 random bits, of which many come from one system call."""
    while True:
        block = random(4096).hex()
        for start in range(0, len(block), 32):
            yield block[start : start + 32]


_new_ids = _ids(os.urandom)


def request_id(headers: Headers) -> str:
    """The client's ``x-request-id`` where it is a sane one, else a new id."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else next(_new_ids)


def unit_of(headers: Headers, user: str) -> str:
    """Whom to keep on one version: header ``x-tuneloop-unit``, else `user`, else the API key; empty: nobody is named.
    """
    if unit := headers.get(b"x-tuneloop-unit", b"").strip():
        return unit.decode("utf-8", "surrogateescape")
    if user:
        return user
    return bearer(headers).decode("utf-8", "surrogateescape")


def bearer(headers: Headers) -> bytes:
    """The API key in ``Authorization: Bearer``; empty where there is none."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""
