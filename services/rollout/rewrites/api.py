"""The calls to the Kubernetes API that InferenceModelRewrite objects need."""

import json
from typing import Any

from kubernetes.client import ApiClient, CustomObjectsApi

from services.rollout.rewrites.manifest import GROUP, KIND, PLURAL, VERSION
from shared.errors import ConflictError, NotFoundError, TemporaryError
from shared.kubernetes_api import TIMEOUT_SECONDS, Caller

FIELD_MANAGER = "tuneloop-rollout"


class RewriteApi:
    """InferenceModelRewrite objects in one namespace. Every call may raise `TemporaryError`.

    Args:
        timeout: seconds to connect, and between two bytes of an answer.
    """

    def __init__(
        self, client: ApiClient, namespace: str, *, timeout: tuple[float, float] = TIMEOUT_SECONDS
    ) -> None:
        self._objects = CustomObjectsApi(client)
        self._call = Caller(client, role="docs/rollouts.md", timeout=timeout)
        self._where = (GROUP, VERSION, namespace, PLURAL)
        self._namespace = namespace

    def get(self, name: str) -> dict[str, Any] | None:
        """The object; None where there is none."""
        what = f"reading {KIND} {name}"
        try:
            found: dict[str, Any] = json.loads(
                self._call(what, self._objects.get_namespaced_custom_object, *self._where, name)
            )
        except NotFoundError as error:
            self._check_kind(what, error)
            return None
        except ValueError as error:
            raise TemporaryError(f"{what}: {self._call.host} answered something else than JSON") from error
        return found

    def create(self, manifest: dict[str, Any]) -> None:
        """Make the object. `TemporaryError` where somebody else has made it a moment ago."""
        what = f"creating {KIND} {manifest['metadata']['name']}"
        create = self._objects.create_namespaced_custom_object
        try:
            self._call(what, create, *self._where, manifest, field_manager=FIELD_MANAGER)
        except ConflictError as error:
            raise TemporaryError(f"{what}: somebody else has just made it: {error}") from error
        except NotFoundError as error:
            self._check_kind(what, error)
            raise TemporaryError(f"{what}: is there a namespace {self._namespace}? {error}") from error

    def apply(self, manifest: dict[str, Any], resource_version: str) -> None:
        """Server-side apply, if the object is still the one that was read; `TemporaryError` if it is not.

        Forced: what the object says about traffic is the route's, whoever else laid a hand on it.
        """
        name = manifest["metadata"]["name"]
        what = f"applying {KIND} {name}"
        fenced = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": resource_version}}
        try:
            self._call(
                what, self._objects.patch_namespaced_custom_object, *self._where, name, fenced,
                field_manager=FIELD_MANAGER, force=True, _content_type="application/apply-patch+yaml",
            )
        except (ConflictError, NotFoundError) as error:
            raise TemporaryError(f"{what}: it has been changed or deleted since it was read: {error}") from error

    def _check_kind(self, what: str, error: NotFoundError) -> None:
        """A path that the API server does not know is answered without a Status object, so without its words."""
        if _is_unknown_path(error):
            raise TemporaryError(
                f"{what}: the cluster knows no {KIND} of {GROUP}/{VERSION}. Install llm-d's custom resource "
                "definitions, or set TUNELOOP_TRAFFIC_BACKEND=gateway"
            ) from error


def _is_unknown_path(error: NotFoundError) -> bool:
    body = getattr(error.__cause__, "body", None)
    try:
        return bool(json.loads(body or "")["kind"] != "Status")
    except (TypeError, ValueError, KeyError):
        return True
