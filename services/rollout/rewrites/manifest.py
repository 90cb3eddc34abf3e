"""What a route's InferenceModelRewrite says, and what must be done about the one that is there. Pure.

llm-d takes weights that are all 0 for an even split, and the schema knows no weight below 1: a version without weight
is no target at all. The object carries the route's revision. It only grows, so that whoever has read an older route
sees that it is late; and every write names the resourceVersion of the object that it was decided by, so that whoever
has read an older object is refused by the API server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import TemporaryError
from shared.events import RouteTarget

GROUP, VERSION, PLURAL, KIND = "llm-d.ai", "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite"
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = "tuneloop"
REVISION = "tuneloop.dev/route-revision"


@dataclass(frozen=True)
class Pool:
    """An InferencePool of model servers; `group` is that of its API."""

    name: str
    group: str


@dataclass(frozen=True)
class Create:
    """There is none."""


@dataclass(frozen=True)
class Apply:
    """It says something else.

    Attributes:
        resource_version: of the object that was read.
        moves_traffic: its targets differ, and not only its revision.
        drifted: somebody else changed what it says.
    """

    resource_version: str
    moves_traffic: bool
    drifted: bool


def name_of(route: str) -> str:
    """The object's name."""
    return f"tuneloop-{route}"


def manifest(
    route: str, revision: int, base_model: str, targets: Sequence[RouteTarget], pool: Pool
) -> dict[str, Any]:
    """The object of a revision of a route. All defaults are spelled out, so that it can be compared with one read."""
    weights: dict[str, int] = {}
    for target in targets:
        name = target.model_version or base_model
        weights[name] = weights.get(name, 0) + target.weight
    return {
        "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND,
        "metadata": {
            "name": name_of(route), "labels": {MANAGED_BY: OURS, "tuneloop.dev/route": route},
            "annotations": {REVISION: str(revision)},
        },
        "spec": {
            "poolRef": {"group": pool.group, "kind": "InferencePool", "name": pool.name},
            "rules": [{
                "matches": [{"model": {"type": "Exact", "value": route}}],
                "targets": [{"modelRewrite": name, "weight": weight} for name, weight in weights.items() if weight],
            }],
        },
    }


def plan(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> Create | Apply | None:
    """What to do about the object that is there; None where it is as it should be.

    Raises:
        TemporaryError: it is not ours to change, or says what a later revision of the route wanted.
    """
    if found is None:
        return Create()
    metadata = found["metadata"]
    where = f"{KIND} {metadata.get('namespace', '')}/{metadata['name']}"
    if metadata.get("labels", {}).get(MANAGED_BY) != OURS:
        raise TemporaryError(
            f"{where} was made by somebody else (it has no label {MANAGED_BY}: {OURS}); it is left alone, and the "
            "route's weights have no effect. Delete it, or give the pipeline another route"
        )
    has, revision = _revision(metadata), _revision(wanted["metadata"])
    if has > revision:
        raise TemporaryError(
            f"{where} says what revision {has} of the route wanted, and this controller knows revision {revision}: it "
            "is late, or its database is an older copy. If that lasts, delete the object; it is made anew"
        )
    same = found.get("spec") == wanted["spec"]
    if same and has == revision:
        return None
    return Apply(metadata["resourceVersion"], moves_traffic=not same, drifted=not same and has == revision)


def _revision(metadata: Mapping[str, Any]) -> int:
    """0 where somebody removed or broke it: then ours is newer."""
    text = metadata.get("annotations", {}).get(REVISION, "")
    return int(text) if text.isdigit() else 0
