"""The calls to the Kubernetes API that jobs need, its answers as views, and its many errors in our few words."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import config
from kubernetes.client import ApiClient, BatchV1Api, Configuration, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from shared.errors import ConflictError, InvalidInputError, NotFoundError, TemporaryError
from shared.launchers.kubernetes.settings import KubernetesSettings
from shared.launchers.kubernetes.views import Job, Pod, PodList, View

V = TypeVar("V", bound=View)
TIMEOUT_SECONDS = (5.0, 30.0)
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class KubernetesApi:
    """Jobs, their pods and their Services in one namespace. Every call may raise `TemporaryError`.

    Args:
        timeout: seconds to connect, and between two bytes of an answer.
    """

    def __init__(
        self, client: ApiClient, namespace: str, *, timeout: tuple[float, float] = TIMEOUT_SECONDS
    ) -> None:
        self.namespace = namespace
        self._host = client.configuration.host
        self._batch, self._core = BatchV1Api(client), CoreV1Api(client)
        self._options = {"_preload_content": False, "_request_timeout": timeout}

    def create_job(self, manifest: dict[str, Any]) -> Job:
        """Make a Job.

        Raises:
            ConflictError: there is one of this name.
            InvalidInputError: the API does not accept the manifest.
        """
        what = f"creating Job {manifest['metadata']['name']}"
        return self._view(Job, what, self._batch.create_namespaced_job, self.namespace, manifest)

    def create_service(self, manifest: dict[str, Any]) -> None:
        """Make a Service, where there is none of this name."""
        what = f"creating Service {manifest['metadata']['name']}"
        try:
            self._call(what, self._core.create_namespaced_service, self.namespace, manifest)
        except ConflictError:
            return

    def job(self, name: str) -> Job | None:
        """The Job of this name; None where there is none."""
        try:
            return self._view(Job, f"reading Job {name}", self._batch.read_namespaced_job, name, self.namespace)
        except NotFoundError:
            return None

    def pods(self, job: Job) -> list[Pod]:
        """The pods of this very Job, and not of another one that had its name."""
        selector = f"batch.kubernetes.io/controller-uid={job.metadata.uid}"
        what = f"listing the pods of Job {job.metadata.name}"
        listing = self._core.list_namespaced_pod
        return self._view(PodList, what, listing, self.namespace, label_selector=selector).items

    def end_job(self, job: Job, annotations: dict[str, str]) -> None:
        """Have Kubernetes end a Job as failed, and keep it, with annotations that say why."""
        patch = {"metadata": {"annotations": annotations}, "spec": {"activeDeadlineSeconds": 1}}
        name = job.metadata.name
        try:
            self._call(f"ending Job {name}", self._batch.patch_namespaced_job, name, self.namespace, patch)
        except NotFoundError:
            return

    def delete_job(self, job: Job) -> None:
        """Delete this very Job; it stays, as being deleted, until its pods have ended."""
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": job.metadata.uid}}
        name = job.metadata.name
        delete = self._batch.delete_namespaced_job
        try:
            self._call(f"deleting Job {name}", delete, name, self.namespace, body=options)
        except (NotFoundError, ConflictError):
            # It is gone; under its name there may be another one by now.
            return

    def log(self, pod: str, *, lines: int, size: int) -> str:
        """The last lines that a pod wrote, of at most about `size` bytes.

        Raises:
            NotFoundError: there is no such pod, or its container has not started.
        """
        read = self._core.read_namespaced_pod_log
        # A limit in bytes would keep the first ones.
        data = self._call(f"reading the log of pod {pod}", read, pod, self.namespace, tail_lines=lines)
        text = data[-size:].decode(errors="replace")
        return text.partition("\n")[2] or text if len(data) > size else text

    def _view(self, kind: type[V], what: str, call: Callable[..., Any], *args: Any, **options: Any) -> V:
        data = self._call(what, call, *args, **options)
        try:
            return kind.model_validate_json(data)
        except ValueError as error:
            raise TemporaryError(
                f"{what}: the Kubernetes API at {self._host} answered something else than was asked for: {error}"
            ) from error

    def _call(self, what: str, call: Callable[..., Any], *args: Any, **options: Any) -> bytes:
        with _translated(what, self._host):
            response = call(*args, **options, **self._options)
            try:
                data: bytes = response.read()
            finally:
                response.release_conn()
            return data


def connect(settings: KubernetesSettings) -> KubernetesApi:
    """The API of the cluster that this process runs in, or of the one in a kubeconfig.

    Raises:
        InvalidInputError: there is neither, or no namespace.
    """
    configuration = Configuration()
    try:
        if settings.kubeconfig:
            config.load_kube_config(str(settings.kubeconfig), client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise InvalidInputError(
            f"TUNELOOP_LAUNCHER is kubernetes, and no cluster is known: {error}. Run this service in a pod with a "
            "service account token, or set TUNELOOP_KUBECONFIG"
        ) from error
    namespace = settings.job_namespace or (_OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "")
    if not namespace:
        raise InvalidInputError("set TUNELOOP_JOB_NAMESPACE: this process runs in no pod, so it has no namespace")
    # Whoever called looks again by itself, and knows better when.
    configuration.retries = False
    return KubernetesApi(ApiClient(configuration), namespace)


@contextmanager
def _translated(what: str, host: str) -> Iterator[None]:
    """Turn what the client raises inside the block into the errors of `shared.errors`.

    Only what the API cannot accept and what is not there are permanent: missing rights and quotas are mended by an
    operator, and no run may be lost until then.
    """
    try:
        yield
    except ApiException as error:
        raise _from_answer(error, what, host) from error
    except (HTTPError, OSError) as error:
        raise TemporaryError(f"{what}: the Kubernetes API at {host} did not answer: {error}") from error


def _from_answer(error: ApiException, what: str, host: str) -> Exception:
    message = _message(error)
    if error.status == 404:
        return NotFoundError(f"{what}: {message}")
    if error.status == 409:
        return ConflictError(f"{what}: {message}")
    if error.status in {400, 422}:
        return InvalidInputError(f"{what}: Kubernetes does not accept it: {message}")
    if error.status in {401, 403}:
        return TemporaryError(
            f"{what}: the Kubernetes API at {host} refused it ({error.status}): {message}. Does the service account "
            "have the Role that docs/jobs.md lists?"
        )
    answered = f"{what}: the Kubernetes API at {host} answered {error.status}: {message}"
    return TemporaryError(answered, delay=_asked(error))


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
