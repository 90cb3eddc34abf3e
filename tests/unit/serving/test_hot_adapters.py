"""Adapters that need a slot of the model server at the same time."""

from services.serving.models import Route
from services.serving.wanted import count_hot
from tests.support.routes import adapter_ref


def route(name: str, *targets: tuple[str | None, int, float], base_model: str = "tiny") -> Route:
    """A route; each target is a model version, its weight, and its share of shadow traffic."""
    return Route(
        route=name, revision=1, base_model=base_model, event_id="e", correlation_id="c",
        targets=[
            {"model_version": version, "adapter": adapter_ref(version).model_dump() if version else None,
             "role": "candidate", "weight": weight, "shadow_share": share}
            for version, weight, share in targets
        ],
    )


def test_adapters_with_traffic_or_copies_of_it_are_hot_each_once() -> None:
    routes = [
        route("a", (None, 8_000, 0.0), ("a@1", 2_000, 0.0), ("a@2", 0, 0.0), ("a@3", 0, 0.1)),
        route("b", ("a@1", 10_000, 0.0)),
        route("c", ("c@1", 10_000, 0.0), base_model="another"),
    ]
    assert count_hot(routes, base_model="tiny") == 2
    assert count_hot(routes, base_model="another") == 1
    assert count_hot([], base_model="tiny") == 0
