"""From the routes that the agent has heard of to the adapters that its server should have. Pure."""

import re
from collections.abc import Iterable
from pathlib import Path

from services.serving.decide import Wanted
from services.serving.models import Route
from shared.events import RouteTarget

_DIGITS = re.compile("[0-9a-f]{64}")


def wanted_adapters(routes: Iterable[Route], *, base_model: str, folder: Path) -> dict[str, Wanted]:
    """Adapters by name, for the routes of this base model; a target without an adapter is the base itself.

    Where two routes name one adapter with different weights, the first by name wins.
    """
    wanted: dict[str, Wanted] = {}
    for route in sorted(routes, key=lambda item: item.route):
        if route.base_model != base_model:
            continue
        for target in (RouteTarget.model_validate(item) for item in route.targets):
            if target.model_version is None or target.adapter is None:
                continue
            digest = target.adapter.digest
            wanted.setdefault(target.model_version, Wanted(
                name=target.model_version, uri=target.adapter.uri, digest=digest,
                root=str(folder / folder_name(target.model_version, digest)),
                correlation_id=route.correlation_id, causation_id=route.event_id,
            ))
    return wanted


def count_hot(routes: Iterable[Route], *, base_model: str) -> int:
    """How many adapters of this base model get traffic, be it copies of other adapters'."""
    targets = [
        RouteTarget.model_validate(item) for route in routes if route.base_model == base_model for item in route.targets
    ]
    hot = [item for item in targets if item.adapter is not None and (item.weight > 0 or item.shadow_share > 0)]
    return len({target.model_version for target in hot})


def folder_name(name: str, digest: str) -> str:
    """An adapter's folder; with its name and digest in it, so that no path ever gets other bytes."""
    return f"{name}.{digest.removeprefix('sha256:')}"


def digest_in(root: str) -> str:
    """The digest that a folder was named for; "" where it was not named by `folder_name`."""
    digits = root.rpartition(".")[2]
    return f"sha256:{digits}" if _DIGITS.fullmatch(digits) else ""
