"""HTTP to one service, with every failure as a `CliError` that says what, where and what to do."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from services.cli.endpoints import resolve, variable
from services.cli.errors import CliError, ExitCode

_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_LOCAL = ("127.0.0.1", "localhost", "::1")
Json = dict[str, Any]


class Service:
    """One service's HTTP API. Use as a context manager.

    Args:
        key: sent as a bearer token; the gateway may want one.
    """

    def __init__(self, name: str, explicit_url: str | None = None, key: str | None = None) -> None:
        self.name = name
        self.url = resolve(name, explicit_url)
        # A proxy that the environment names knows nothing of this machine's own ports.
        local = urlsplit(self.url).hostname in _LOCAL
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=not local)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def get(self, *path: str, **filters: str | int | None) -> Json:
        """The JSON object at a path; `filters` that are None are left out."""
        params = {name: value for name, value in filters.items() if value is not None}
        return self._call("GET", path, params=params)

    def find(self, *path: str) -> Json | None:
        """Like `get`, but None where there is no such thing (yet)."""
        try:
            return self.get(*path)
        except CliError as error:
            if error.code == ExitCode.NOT_FOUND:
                return None
            raise

    def post(self, *path: str, body: Json) -> Json:
        """The answer to a JSON body."""
        return self._call("POST", path, json=body)

    def send(
        self, *path: str, content: str | bytes | Iterable[bytes], headers: Mapping[str, str], **params: str
    ) -> Json:
        """The answer to a raw body."""
        return self._call("POST", path, content=content, headers=dict(headers), params=params)

    def _call(self, method: str, path: tuple[str, ...], **arguments: Any) -> Json:
        url = "/v1/" + "/".join(quote(part, safe="@") for part in path)
        try:
            response = self._http.request(method, url, **arguments)
        except httpx.TransportError as error:
            raise CliError(
                f"the {self.name} service at {self.url} does not answer ({_why(error)}): is it running "
                f"(`tuneloop status`), and is {variable(self.name)} right?",
                ExitCode.UNREACHABLE,
            ) from error
        except httpx.InvalidURL as error:
            raise CliError(f"{variable(self.name)}: {self.url} is not a URL: {error}", ExitCode.USAGE) from error
        return self._read(response)

    def _read(self, response: httpx.Response) -> Json:
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.is_success and isinstance(body, dict):
            return body
        where = f"{self.name} ({response.request.url})"
        if response.is_success:
            raise CliError(f"{where} does not answer as tuneloop does; is {variable(self.name)} right?")
        code = ExitCode.NOT_FOUND if response.status_code == 404 else ExitCode.REFUSED
        message = _message(body)
        if message and response.status_code < 500:
            raise CliError(message, code)
        raise CliError(f"{where} answered {response.status_code} {response.reason_phrase}"
                       + (f": {message}" if message else "; its log says more"), code)


def _message(body: object) -> str:
    """What an error answer says: our own form, or FastAPI's for a wrong parameter."""
    if not isinstance(body, dict):
        return ""
    error, detail = body.get("error"), body.get("detail")
    if isinstance(error, dict):
        return str(error.get("message", ""))
    if isinstance(detail, list):
        return "; ".join(
            f"{'.'.join(str(part) for part in item.get('loc', [])[1:])}: {item.get('msg')}" for item in detail
        )
    return "" if detail is None or detail == "Not Found" else str(detail)


def _why(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
