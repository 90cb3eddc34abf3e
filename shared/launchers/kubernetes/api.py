"""The calls to the Kubernetes API that jobs need, and its answers as views."""

from collections.abc import Callable
from typing import Any, TypeVar

from kubernetes.client import ApiClient, BatchV1Api, CoreV1Api

from shared import kubernetes_api
from shared.errors import ConflictError, NotFoundError, TemporaryError
from shared.kubernetes_api import TIMEOUT_SECONDS, Caller
from shared.launchers.kubernetes.settings import KubernetesSettings
from shared.launchers.kubernetes.views import Job, Pod, PodList, View

V = TypeVar("V", bound=View)


class KubernetesApi:
    """Jobs, their pods and their Services in one namespace. Every call may raise `TemporaryError`.

    Args:
        timeout: seconds to connect, and between two bytes of an answer.
    """

    def __init__(
        self, client: ApiClient, namespace: str, *, timeout: tuple[float, float] = TIMEOUT_SECONDS
    ) -> None:
        self.namespace = namespace
        self._call = Caller(client, role="docs/jobs.md", timeout=timeout)
        self._batch, self._core = BatchV1Api(client), CoreV1Api(client)

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
                f"{what}: the Kubernetes API at {self._call.host} answered something else than was asked for: {error}"
            ) from error


def connect(settings: KubernetesSettings) -> KubernetesApi:
    """The API of the cluster that this process runs in, or of the one in a kubeconfig.

    Raises:
        InvalidInputError: there is neither, or no namespace.
    """
    return KubernetesApi(*kubernetes_api.connect(
        settings.kubeconfig, settings.job_namespace, reason="TUNELOOP_LAUNCHER is kubernetes",
        setting="TUNELOOP_JOB_NAMESPACE",
    ))
