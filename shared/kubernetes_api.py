"""What every client of the Kubernetes API needs: where the cluster is, calls that end, and its errors in our words.

Only who calls `connect` or makes a `Caller` needs the `kubernetes` package.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from shared.errors import ConflictError, InvalidInputError, NotFoundError, TemporaryError

TIMEOUT_SECONDS = (5.0, 30.0)
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Caller:
    """Calls methods of the client's API classes.

    Args:
        role: the page that lists the rights that the calls need, for whoever lacks them.
        timeout: seconds to connect, and between two bytes of an answer.
    """

    def __init__(self, client: ApiClient, *, role: str, timeout: tuple[float, float] = TIMEOUT_SECONDS) -> None:
        self.host: str = client.configuration.host
        self._role = role
        self._options = {"_preload_content": False, "_request_timeout": timeout}

    def __call__(self, what: str, call: Callable[..., Any], *args: Any, **options: Any) -> bytes:
        """The answer's body.

        Raises:
            NotFoundError, ConflictError, InvalidInputError, TemporaryError: what was being done (`what`), and the API's
                own words. Only what it cannot accept and what is not there are permanent: missing rights and quotas are
                mended by an operator, and nothing may be lost until then.
        """
        with self._translated(what):
            response = call(*args, **options, **self._options)
            try:
                data: bytes = response.read()
            finally:
                response.release_conn()
            return data

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            raise self._from_answer(error, what) from error
        except (HTTPError, OSError) as error:
            raise TemporaryError(f"{what}: the Kubernetes API at {self.host} did not answer: {error}") from error

    def _from_answer(self, error: ApiException, what: str) -> Exception:
        message = _message(error)
        if error.status == 404:
            return NotFoundError(f"{what}: {message}")
        if error.status == 409:
            return ConflictError(f"{what}: {message}")
        if error.status in {400, 422}:
            return InvalidInputError(f"{what}: Kubernetes does not accept it: {message}")
        if error.status in {401, 403}:
            return TemporaryError(
                f"{what}: the Kubernetes API at {self.host} refused it ({error.status}): {message}. Does the service "
                f"account have the Role that {self._role} lists?"
            )
        answered = f"{what}: the Kubernetes API at {self.host} answered {error.status}: {message}"
        return TemporaryError(answered, delay=_asked(error))


def connect(kubeconfig: Path | None, namespace: str, *, reason: str, setting: str) -> tuple[ApiClient, str]:
    """A client of the cluster that this process runs in, or of the one in a kubeconfig, and the namespace to work in.

    Args:
        namespace: empty for the process's own.
        reason: why a cluster is needed, such as ``TUNELOOP_LAUNCHER is kubernetes``.
        setting: by which a namespace is named.

    Raises:
        InvalidInputError: there is no cluster, or no namespace.
    """
    configuration = Configuration()
    try:
        if kubeconfig:
            config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise InvalidInputError(
            f"{reason}, and no cluster is known: {error}. Run this service in a pod with a service account token, or "
            "set TUNELOOP_KUBECONFIG"
        ) from error
    found = namespace or (_OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "")
    if not found:
        raise InvalidInputError(f"set {setting}: this process runs in no pod, so it has no namespace")
    # Whoever called looks again by itself, and knows better when.
    configuration.retries = False
    return ApiClient(configuration), found


def _message(error: ApiException) -> str:
    """The API's own words, which are in a Status object."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or "no reason given")


def _asked(error: ApiException) -> timedelta | None:
    """How long the API asked to be left alone."""
    value = (error.headers or {}).get("Retry-After", "")
    return timedelta(seconds=int(value)) if str(value).isdigit() else None
