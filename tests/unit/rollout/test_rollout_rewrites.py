"""What a route's InferenceModelRewrite says, and when it is written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rollout.rewrites.manifest import Apply, Create, Pool, manifest, plan
from services.rollout.settings import RolloutSettings
from services.rollout.state import FULL_WEIGHT
from shared.errors import TemporaryError
from shared.events import RouteTarget
from tests.support.rewrites import InferenceModelRewrite
from tests.support.routes import target

POOL = Pool("vllm-tiny", "inference.networking.k8s.io")


def wanted(revision: int = 3, candidate: int = 2_000, stable: str | None = None) -> dict[str, Any]:
    targets = [target(stable, "stable", FULL_WEIGHT - candidate), target("r@2", "candidate", candidate)]
    return manifest("r", revision, "tiny", targets, POOL)


def stored(item: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """As the API server answers it."""
    return {**item, "metadata": {**item["metadata"], "namespace": "ml", "resourceVersion": "7", **metadata}}


@given(
    weights=st.lists(st.integers(0, FULL_WEIGHT), min_size=2, max_size=3).filter(any),
    stable=st.none() | st.just("r@1"),
)
def test_every_object_fits_the_schema_and_no_version_without_weight_is_a_target(
    weights: list[int], stable: str | None
) -> None:
    """llm-d takes weights that are all 0 for an even split."""
    names = [stable, "r@2", stable]
    targets = [RouteTarget(model_version=name, adapter=None, role="stable", weight=weight)
               for name, weight in zip(names, weights, strict=False)]
    item = manifest("r", 1, "tiny", targets, POOL)
    InferenceModelRewrite.model_validate(item)
    [rule] = item["spec"]["rules"]
    given = {one["modelRewrite"]: one["weight"] for one in rule["targets"]}
    meant = {stable or "tiny": weights[0] + sum(weights[2:]), "r@2": weights[1]}
    assert given == {name: weight for name, weight in meant.items() if weight}
    assert len(given) == len(rule["targets"])


def test_the_rule_is_for_the_route_s_name_only() -> None:
    item = wanted()
    assert item["metadata"]["name"] == "tuneloop-r"
    assert item["spec"] == {
        "poolRef": {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "vllm-tiny"},
        "rules": [{"matches": [{"model": {"type": "Exact", "value": "r"}}],
                   "targets": [{"modelRewrite": "tiny", "weight": 8_000}, {"modelRewrite": "r@2", "weight": 2_000}]}],
    }


@pytest.mark.parametrize(("found", "to_do"), [
    (None, Create()),
    (stored(wanted(3)), None),
    (stored(wanted(2, candidate=0)), Apply("7", moves_traffic=True, drifted=False)),
    (stored(wanted(2)), Apply("7", moves_traffic=False, drifted=False)),
    (stored(wanted(3, candidate=9_000)), Apply("7", moves_traffic=True, drifted=True)),
    (stored(wanted(3), annotations={}), Apply("7", moves_traffic=False, drifted=False)),
])
def test_what_is_done_about_the_object_that_is_there(found: dict[str, Any] | None, to_do: object) -> None:
    assert plan(found, wanted(3)) == to_do


def test_an_object_of_somebody_else_and_one_that_is_ahead_are_left_alone() -> None:
    with pytest.raises(TemporaryError, match="ml/tuneloop-r was made by somebody else"):
        plan(stored(wanted(), labels={}), wanted())
    with pytest.raises(TemporaryError, match="what revision 4 of the route wanted, and this controller knows"):
        plan(stored(wanted(4)), wanted(3))


def test_the_backend_needs_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELOOP_TRAFFIC_BACKEND", "inference-model-rewrite")
    with pytest.raises(ValueError, match="TUNELOOP_INFERENCE_POOLS"):
        RolloutSettings()
    monkeypatch.setenv("TUNELOOP_INFERENCE_POOLS", '{"tiny": "vllm-tiny"}')
    assert RolloutSettings().inference_pools == {"tiny": "vllm-tiny"}
