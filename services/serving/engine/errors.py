"""Errors as vLLM answers them: nested under ``error``, with the parameter that was wrong."""

from typing import Any


class ApiError(Exception):
    """An answer that is not 200.

    Args:
        param: the request's field that was wrong, where one was.
        retry_after: seconds for a ``Retry-After`` header.
    """

    def __init__(
        self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, param=param)


def not_found(message: str, param: str | None = None) -> ApiError:
    return ApiError(404, message, kind="NotFoundError", param=param)


def overloaded(message: str) -> ApiError:
    return ApiError(503, message, kind="ServiceUnavailableError", retry_after=1)


def internal(message: str) -> ApiError:
    return ApiError(500, message, kind="InternalServerError")


def unreachable(message: str) -> ApiError:
    return ApiError(502, message, kind="BadGatewayError")
