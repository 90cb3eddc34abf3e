"""Every error that the gateway itself answers, in the OpenAI format that clients' libraries understand."""

import json
from collections.abc import Collection

from shared.errors import TuneloopError


class ApiError(TuneloopError):
    """An answer other than success.

    Args:
        status: the HTTP status, where no answer has begun yet.
        code: a word for programs; docs/gateway.md lists them.
        param: the request's field that is wrong, if one is.
        retry_after: seconds after which trying again may help.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def type_(self) -> str:
        """The OpenAI error type."""
        if self.status == 429:
            return "requests"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What belongs into the answer's head."""
        found = [(b"content-type", b"application/json")]
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        if self.retry_after is not None:
            found.append((b"retry-after", b"%d" % self.retry_after))
        return found

    def body(self) -> bytes:
        """The JSON body."""
        error = {"message": str(self), "type": self.type_, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    def sse(self) -> bytes:
        """The same as a server-sent event, for a stream that has begun. No ``[DONE]`` follows: it is not done."""
        return b"data: " + self.body() + b"\n\n"


def invalid_json(detail: str) -> ApiError:
    return ApiError(400, "invalid_json", f"the body is not a JSON object: {detail}")


def invalid_field(name: str, detail: str) -> ApiError:
    return ApiError(400, "invalid_request", f"{name}: {detail}", param=name)


def no_key() -> ApiError:
    return ApiError(401, "invalid_api_key", "this gateway wants an API key: Authorization: Bearer tl_...")


def unknown_key() -> ApiError:
    return ApiError(401, "invalid_api_key", "the API key is not one of this gateway's")


def expired_key(key: str) -> ApiError:
    return ApiError(401, "invalid_api_key", f"the API key {key} has expired")


def rate_limited(key: str, per_minute: float, seconds: int) -> ApiError:
    message = f"the API key {key} may ask {per_minute:g} times a minute; try again in {seconds} s"
    return ApiError(429, "rate_limit_exceeded", message, retry_after=seconds)


def too_large(limit: int) -> ApiError:
    return ApiError(413, "request_too_large", f"the body is longer than {limit} bytes, the limit of this gateway")


def slow_request(part: str, seconds: float) -> ApiError:
    return ApiError(408, "request_timeout", f"the request's {part} did not arrive within {seconds:g} s")


def bad_http(detail: str) -> ApiError:
    return ApiError(400, "bad_http", f"this is no HTTP request that can be answered: {detail}")


def head_too_large(limit: int) -> ApiError:
    return ApiError(431, "head_too_large", f"the head is longer than {limit} bytes, the limit of this gateway")


def unknown_model(name: str, known: Collection[str]) -> ApiError:
    routes = ", ".join(sorted(known)) or "none yet"
    return ApiError(404, "model_not_found", f"no route is named {name[:100]!r}; routes: {routes}", param="model")


def no_table() -> ApiError:
    message = "the gateway knows no route yet; one comes with the first rollout"
    return ApiError(503, "no_route_table", message, retry_after=2)


def overloaded(limit: int) -> ApiError:
    return ApiError(503, "overloaded", f"{limit} requests are in flight, the limit of this gateway", retry_after=1)


def unknown_request(request_id: str, model_version: str | None) -> ApiError:
    hint = "give model_version as the answer's x-tuneloop-model-version had it, and with base also route"
    if model_version is not None:
        hint = f"and no route has a model version {model_version[:100]!r} now; with base, give route, too"
    message = f"this gateway does not remember a request {request_id!r}; {hint}"
    return ApiError(404, "request_not_found", message, param="request_id")


def other_version(request_id: str, label: str) -> ApiError:
    return ApiError(409, "other_model_version", f"{request_id!r} was answered by {label!r}", param="model_version")


def feedback_not_kept() -> ApiError:
    message = "the feedback could not be stored in time; it may be sent again without being counted twice"
    return ApiError(503, "feedback_not_stored", message, retry_after=5)


def no_replica(route: str, label: str) -> ApiError:
    return ApiError(
        503, "no_replica", f"no model server has confirmed that it serves {label!r} of route {route!r}", retry_after=2
    )


def not_loaded(route: str, label: str) -> ApiError:
    return ApiError(
        503, "model_not_loaded", f"the model servers of route {route!r} do not serve {label!r} now", retry_after=2
    )


def unreachable(label: str, detail: str) -> ApiError:
    message = f"no model server of {label!r} takes connections: {detail}"
    return ApiError(503, "upstream_unreachable", message, retry_after=2)


def upstream_failed(label: str, detail: str) -> ApiError:
    return ApiError(502, "upstream_failed", f"the model server of {label!r} broke off its answer: {detail}")


def upstream_timeout(label: str, seconds: float) -> ApiError:
    return ApiError(504, "upstream_timeout", f"the model server of {label!r} was silent for {seconds:g} s")


def shutting_down() -> ApiError:
    return ApiError(503, "shutting_down", "the gateway is shutting down and cut this request short", retry_after=1)
