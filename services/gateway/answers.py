"""What a finished answer shows without anybody's opinion: a refusal, or not the JSON that was asked for. Pure.

A refusal is what OpenAI's API calls one: a `refusal` with text in it, or the finish reason ``content_filter``. Words
that sound like one are not looked for: they are right for one model and wrong for the next.

Structured output is checked where a request asked for it (`response_format` json_object or json_schema): the answer
must be a JSON object, or fit the schema. An answer that was cut at `max_tokens` is invalid like any other. Answers that
refuse or call tools are not judged, nor are those whose schema cannot be used here (it is broken, it refers to another
document, or it has a pattern that needs backtracking).
"""

import json
import re
from functools import lru_cache
from typing import Any, Literal

import jsonschema_rs

from services.gateway import codec
from services.gateway.sse import EventCutter

Structured = Literal["valid", "invalid", "unchecked"]

_WISH = b'"response_format"'
# Inside of a JSON string each quote has a backslash before it, so this finds keys and never what somebody says.
_REFUSAL = re.compile(rb'"refusal"\s*:\s*"[^"]|"finish_reason"\s*:\s*"content_filter"')
# Patterns of a schema come from clients: an engine without backtracking cannot be made to hang.
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1_000_000)


def refuses(part: bytes) -> bool:
    """Whether a whole answer, or some whole events of a stream, say that the model refuses."""
    # Plain searches first, since nearly no answer has either; `find` is several times faster than `in`.
    if part.find(b'"refusal"') < 0 and part.find(b'"content_filter"') < 0:
        return False
    return _REFUSAL.search(part) is not None


def wants_structure(request: bytes) -> bool:
    """Whether it is worth keeping the answer to a request for `check`; a look at the bytes, and no more."""
    return request.find(_WISH) >= 0


def check(request: bytes, response: bytes) -> Structured | None:
    """Whether every choice of an answer is what the request asked for; None where it asked for no structure."""
    kind, schema = _wish(request)
    if not kind:
        return None
    texts = _texts(response)
    if not texts or None in texts:
        return "unchecked"
    try:
        fits = _object_only if kind == "json_object" else _validator(json.dumps(schema, sort_keys=True)).is_valid
    except (jsonschema_rs.ValidationError, ValueError, RecursionError):
        return "unchecked"
    return "valid" if all(_is(text, fits) for text in texts if text is not None) else "invalid"


def _wish(request: bytes) -> tuple[str, Any]:
    """The type of `response_format` and its schema; empty where it asks for no structure."""
    document = _read(request)
    wish: Any = document.get("response_format") if isinstance(document, dict) else None
    if not isinstance(wish, dict):
        return "", None
    kind = wish.get("type")
    if kind == "json_object":
        return kind, None
    if kind != "json_schema":
        return "", None
    named = wish.get("json_schema")
    # Without a schema, or with one that is none, `_validator` refuses it.
    return kind, named.get("schema") if isinstance(named, dict) else None


@lru_cache(maxsize=64)
def _validator(schema: str) -> jsonschema_rs.Validator:
    """Made once for a schema; a client sends the same one with each request."""
    document = json.loads(schema)
    if not isinstance(document, dict):
        raise ValueError("a schema is a JSON object")  # noqa: TRY004 - one kind of error for all that is no schema
    return jsonschema_rs.validator_for(document, offline=True, pattern_options=_PATTERNS)


def _object_only(value: Any) -> bool:
    return isinstance(value, dict)


def _is(text: str, fits: Any) -> bool:
    try:
        return bool(fits(codec.read_exactly(text.encode("utf-8", "surrogatepass"))))
    except (ValueError, RecursionError):
        return False


def _texts(response: bytes) -> list[str | None]:
    """What each choice says; None for one that calls a tool or refuses."""
    if response.lstrip()[:1] == b"{":
        document = _read(response)
        choices = document.get("choices") if isinstance(document, dict) else None
        return [_said(choice, "message") for choice in choices] if isinstance(choices, list) else []
    said: dict[int, str | None] = {}
    for payload in EventCutter(limit=len(response)).feed(response)[1]:
        event = _read(payload) if payload != b"[DONE]" else None
        choices = event.get("choices") if isinstance(event, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            index, piece = choice.get("index", 0) if isinstance(choice, dict) else 0, _said(choice, "delta")
            before = said.get(index, "")
            said[index] = None if piece is None or before is None else before + piece
    return list(said.values())


def _said(choice: Any, key: str) -> str | None:
    message = choice.get(key) if isinstance(choice, dict) else None
    if not isinstance(message, dict) or message.get("tool_calls") or message.get("refusal"):
        return None
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _read(raw: bytes) -> Any:
    try:
        return codec.read_exactly(raw)
    except (ValueError, RecursionError):
        return None
