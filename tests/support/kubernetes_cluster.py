"""A Kubernetes API server on a free port: kmock's emulator, and what of the real one the launcher relies on.

No controller runs here: a test says itself what has become of a Job and its pods.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import kmock
from kubernetes.client import ApiClient, Configuration

from shared.launchers.kubernetes.api import KubernetesApi

NAMESPACE = "jobs"
JOBS, PODS, SERVICES = kmock.resource("batch/v1/jobs"), kmock.resource("v1/pods"), kmock.resource("v1/services")
CREATED = "2026-01-01T00:00:00Z"
S = TypeVar("S", bound="ApiServer")


class ApiServer(kmock.KubernetesEmulator):  # type: ignore[misc]  # kmock is not always installed where mypy runs
    """What the emulator leaves out: uids, label selectors, preconditions, foreground deletion; and faults."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.faults: list[Any] = []
        self.logs: dict[str, str] = {}
        self.uids = 0
        for resource in (JOBS, PODS, SERVICES):
            self.resources[resource] = {}

    async def _handle(self, request: Any) -> Any:
        if self.faults:
            await self._fail(self.faults.pop(0))
        self._prepare(request)
        return await super()._handle(request)

    def _prepare(self, request: Any) -> None:
        if request.action == kmock.action.CREATE:
            self.uids += 1
            request.data["metadata"] |= {"uid": f"uid-{self.uids}", "creationTimestamp": CREATED}
        if request.action == kmock.action.DELETE:
            self._prepare_deletion(request)

    async def _fail(self, fault: Any) -> None:
        if fault == "silence":
            await asyncio.sleep(1)
        elif fault is not None:
            raise kmock.KubernetesError(status=fault[0], message=fault[1])

    def _prepare_deletion(self, request: Any) -> None:
        key = (request.resource, request.namespace, request.name)
        if key not in self.objects or self.objects[key].deleted:
            return
        found = self.objects[key]
        expected = (request.data or {}).get("preconditions", {}).get("uid")
        if expected not in {None, found.raw["metadata"]["uid"]}:
            raise kmock.KubernetesError(status=409, reason="Conflict", message="the UID in the precondition differs")
        if (request.data or {}).get("propagationPolicy") == "Foreground":
            found.patch({"metadata": {"finalizers": ["foregroundDeletion"]}})

    async def _serve_list(self, request: Any) -> Any:
        answer = await super()._serve_list(request)
        wanted = dict(part.split("=", 1) for part in request.params.get("labelSelector", "").split(",") if part)
        answer["items"] = [
            item for item in answer["items"] if wanted.items() <= item["metadata"].get("labels", {}).items()
        ]
        return answer

    async def _serve_fetch(self, request: Any) -> Any:
        if request.subresource != "log":
            return await super()._serve_fetch(request)
        if request.name not in self.logs:
            raise kmock.KubernetesObjectNotFoundError()
        lines = self.logs[request.name].splitlines(keepends=True)
        return "".join(lines[-int(request.params["tailLines"]):]).encode()


class Cluster:
    """The test's hand on the API server."""

    def __init__(self, server: ApiServer, url: str) -> None:
        self._server, self.url = server, url

    def api(self, *, timeout: tuple[float, float] = (2.0, 10.0)) -> KubernetesApi:
        """The real client against it."""
        configuration = Configuration()
        configuration.host, configuration.retries = self.url, False
        return KubernetesApi(ApiClient(configuration), NAMESPACE, timeout=timeout)

    def job(self, name: str) -> dict[str, Any]:
        """The Job as it is stored."""
        return self._stored(JOBS, name).raw  # type: ignore[no-any-return]

    def service(self, name: str) -> dict[str, Any]:
        return self._stored(SERVICES, name).raw  # type: ignore[no-any-return]

    def exists(self, name: str) -> bool:
        key = (JOBS, NAMESPACE, name)
        return key in self._server.objects and not self._server.objects[key].deleted

    def put_job(self, name: str, manifest: dict[str, Any]) -> None:
        """A Job that somebody else made."""
        self._server.objects[JOBS, NAMESPACE, name] = manifest

    def set_job(self, name: str, **changes: Any) -> None:
        """What a controller writes into a Job: `status`, `spec` or `metadata`."""
        self._stored(JOBS, name).patch(changes)

    def end(self, name: str, type_: str, reason: str = "", message: str = "") -> None:
        """The Job controller's last word: Complete or Failed."""
        condition = {"type": type_, "status": "True", "reason": reason, "message": message}
        self.set_job(name, status={"conditions": [condition]})

    def add_pod(self, job: str, status: dict[str, Any], *, index: int = 0, log: str | None = None) -> str:
        """A pod of a Job; its name."""
        name = f"{job}-{index}-abcde"
        labels = {"batch.kubernetes.io/controller-uid": self.job(job)["metadata"]["uid"]}
        metadata = {"name": name, "labels": labels, "creationTimestamp": CREATED}
        self._server.objects[PODS, NAMESPACE, name] = {"metadata": metadata, "status": status}
        if log is not None:
            self._server.logs[name] = log
        return name

    def finish_deletion(self, name: str) -> None:
        """The pods have ended, and with them the Job."""
        self._stored(JOBS, name).delete()

    def fail_next(self, *faults: tuple[int, str] | Literal["silence"] | None) -> None:
        """What becomes of the next requests: a status code with a message, "silence", or None for an answer."""
        self._server.faults += faults

    def requests(self, method: str) -> list[Any]:
        """The requests of a method, oldest first."""
        return [request for request in self._server if request.method == method]

    def _stored(self, resource: Any, name: str) -> Any:
        return self._server.objects[resource, NAMESPACE, name]


@contextmanager
def start_cluster() -> Iterator[Cluster]:
    """An empty cluster, served from a thread until the block ends."""
    with serve(ApiServer()) as served:
        yield Cluster(*served)


@contextmanager
def serve(server: S) -> Iterator[tuple[S, str]]:
    """Serve an API server from a thread until the block ends; it, and its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def enter() -> Any:
        await server.__aenter__()
        return await kmock.Server(server).__aenter__()

    async def leave() -> None:
        await door.__aexit__(None, None, None)
        await server.__aexit__(None, None, None)

    door = asyncio.run_coroutine_threadsafe(enter(), loop).result(10)
    try:
        yield server, str(door.url).rstrip("/")
    finally:
        asyncio.run_coroutine_threadsafe(leave(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
