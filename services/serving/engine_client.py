"""The model server as the agent sees it: vLLM's API, and nothing that only our own engine has."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from shared.errors import PermanentError, TemporaryError

_START_METRIC = "process_start_time_seconds"


class EngineUnavailableError(TemporaryError):
    """The server does not answer, or not as one does that is up."""


class EngineRefusedError(PermanentError):
    """The server answered that it will not; the message is its own."""


@dataclass(frozen=True)
class Listing:
    """What the server says of itself.

    Attributes:
        bases: names of base models.
        adapters: name to the folder that it was loaded from.
        started: start of its process, "" where it does not say.
    """

    bases: frozenset[str]
    adapters: dict[str, str]
    started: str


class EngineClient:
    """Calls to one model server.

    Args:
        timeout: seconds for a look or an unload; `load_timeout` for a load.
    """

    def __init__(self, url: str, *, timeout: float, load_timeout: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=timeout, trust_env=False)
        self._load_timeout = load_timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def look(self) -> Listing:
        """The present state; EngineUnavailableError where there is none, or where vLLM says that its engine is dead."""
        try:
            self._client.get("/health").raise_for_status()
            models = self._client.get("/v1/models").raise_for_status().json()["data"]
            bases = frozenset(str(model["id"]) for model in models if not model.get("parent"))
            adapters = {str(model["id"]): str(model["root"]) for model in models if model.get("parent")}
            metrics = self._client.get("/metrics")
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            url = self._client.base_url
            raise EngineUnavailableError(f"the model server at {url} does not answer: {error}") from error
        return Listing(bases, adapters, _start(metrics.text) if metrics.status_code == 200 else "")

    def load(self, name: str, root: str) -> None:
        """Load an adapter from a local folder under a name that is not listed."""
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": root}, self._load_timeout)

    def unload(self, name: str) -> None:
        """Take an adapter away; one that is not there is no error."""
        try:
            self._post("/v1/unload_lora_adapter", {"lora_name": name}, None)
        except EngineRefusedError:
            if name in self.look().adapters:
                raise

    def _post(self, path: str, body: dict[str, str], timeout: float | None) -> None:
        try:
            answer = self._client.post(path, json=body, timeout=timeout or httpx.USE_CLIENT_DEFAULT)
        except httpx.HTTPError as error:
            raise EngineUnavailableError(f"{path} of {self._client.base_url} did not answer: {error!r}") from error
        if answer.status_code >= 500:
            # vLLM answers 500 to files that it cannot load, and to everything once its engine has died.
            self.look()
        if answer.status_code != 200:
            raise EngineRefusedError(f"the model server answered {answer.status_code}: {_message(answer)}")


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]


def _start(metrics: str) -> str:
    families = text_string_to_metric_families(metrics)
    return next((repr(family.samples[0].value) for family in families if family.name == _START_METRIC), "")
