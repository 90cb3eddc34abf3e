"""A Kubernetes API server that knows llm-d's InferenceModelRewrite: server-side apply, resource versions, the schema.

The schema here is written after llm-d's custom resource definition (llm-d.ai/v1alpha2), and as closed as can be.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeVar

import aiohttp.web
import kmock
from kubernetes.client import ApiClient, Configuration
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.rollout.rewrites.api import RewriteApi
from tests.support.kubernetes_cluster import NAMESPACE, ApiServer, Cluster, serve

REWRITES = kmock.resource("llm-d.ai/v1alpha2/inferencemodelrewrites")
APPLY = "application/apply-patch+yaml"
_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
Group = Annotated[str, Field(max_length=253, pattern=f"^({_DOMAIN})?$")]


A = TypeVar("A", bound=RewriteApi)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PoolRef(_Strict):
    group: Group = "inference.networking.k8s.io"
    kind: Annotated[str, Field(pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$", max_length=63)] = "InferencePool"
    name: Annotated[str, Field(min_length=1, max_length=253)]


class ModelMatch(_Strict):
    type: Literal["Exact"] = "Exact"
    value: Annotated[str, Field(min_length=1)]


class Match(_Strict):
    model: ModelMatch


class TargetModel(_Strict):
    modelRewrite: str  # noqa: N815 - Kubernetes' name
    weight: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class Rule(_Strict):
    matches: list[Match] = Field(default_factory=list)
    targets: Annotated[list[TargetModel], Field(min_length=1)]


class Spec(_Strict):
    poolRef: PoolRef  # noqa: N815
    rules: list[Rule]


class InferenceModelRewrite(_Strict):
    apiVersion: Literal["llm-d.ai/v1alpha2"]  # noqa: N815
    kind: Literal["InferenceModelRewrite"]
    metadata: dict[str, Any]
    spec: Spec


class _RewriteServer(ApiServer):
    """Server-side apply as far as it is used, on top of the emulator's merge patch.

    `spec.rules` is an atomic list, so that whoever applies it replaces all of it, in either.
    """

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.defined = True
        self.version = 0
        self.resources[REWRITES] = {}

    async def _handle(self, request: Any) -> Any:
        if request.resource == REWRITES and not self.defined:
            return aiohttp.web.Response(status=404, text="404 page not found\n")
        return await super()._handle(request)

    def _prepare(self, request: Any) -> None:
        super()._prepare(request)
        if request.resource != REWRITES:
            return
        if request.action == kmock.action.CREATE:
            self._check(request.data)
            self._number(request.data)
        if request.action == kmock.action.UPDATE:
            self._apply(request)

    def _apply(self, request: Any) -> None:
        if request.headers.get("Content-Type") != APPLY:
            raise kmock.KubernetesError(status=415, message="only server-side apply is emulated")
        if not request.params.get("fieldManager"):
            raise kmock.KubernetesError(status=400, message="fieldManager is required for apply patch")
        key = (REWRITES, request.namespace, request.name)
        if key in self.objects and not self.objects[key].deleted:
            expected = request.data["metadata"].get("resourceVersion")
            if expected not in {None, self.objects[key].raw["metadata"]["resourceVersion"]}:
                raise kmock.KubernetesError(status=409, message="the object has been modified; please apply your "
                                                               "changes to the latest version and try again")
            self._check(request.data)
            self._number(request.data)

    def _number(self, item: dict[str, Any]) -> None:
        self.version += 1
        item["metadata"] |= {"resourceVersion": str(self.version)}

    def _check(self, item: dict[str, Any]) -> None:
        try:
            InferenceModelRewrite.model_validate(item)
        except ValidationError as error:
            raise kmock.KubernetesError(status=422, message=f"InferenceModelRewrite is invalid: {error}") from error


class RewriteCluster(Cluster):
    """The test's hand on the objects."""

    _server: _RewriteServer

    def rewrites(self, kind: type[A] = RewriteApi) -> A:  # type: ignore[assignment]  # of which A is a subclass
        """The real client against it."""
        configuration = Configuration()
        configuration.host, configuration.retries = self.url, False
        return kind(ApiClient(configuration), NAMESPACE, timeout=(2.0, 10.0))

    def rewrite(self, name: str) -> dict[str, Any] | None:
        """The object as it is stored; None where there is none."""
        key = (REWRITES, NAMESPACE, name)
        if key not in self._server.objects or self._server.objects[key].deleted:
            return None
        return dict(self._server.objects[key].raw)

    def put_rewrite(self, name: str, item: dict[str, Any]) -> None:
        """An object that somebody else made."""
        self._server.objects[REWRITES, NAMESPACE, name] = item

    def change(self, name: str, **changes: Any) -> None:
        """What somebody else writes into it."""
        self._server.version += 1
        metadata = {**changes.pop("metadata", {}), "resourceVersion": str(self._server.version)}
        self._server.objects[REWRITES, NAMESPACE, name].patch({**changes, "metadata": metadata})

    def delete(self, name: str) -> None:
        self._server.objects[REWRITES, NAMESPACE, name].delete()

    def define(self, *, defined: bool) -> None:
        """Install llm-d's definitions, or remove them."""
        self._server.defined = defined


@contextmanager
def start_rewrite_cluster() -> Iterator[RewriteCluster]:
    """A cluster with llm-d's definitions and no objects."""
    with serve(_RewriteServer()) as served:
        yield RewriteCluster(*served)
