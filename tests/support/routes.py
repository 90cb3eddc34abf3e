"""Facts for the gateway: routes, replicas and adapters, with the boring fields filled in."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

from shared.events import (
    AdapterLoaded,
    AdapterUnloaded,
    ArtifactRef,
    Event,
    Payload,
    ReplicaReady,
    RouteTarget,
    RouteUpdated,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
BASE_MODEL = "tiny"


def adapter_ref(model_version: str) -> ArtifactRef:
    """The artifact of a model version; its digest depends on the name only."""
    digest = sha256(model_version.encode()).hexdigest()
    return ArtifactRef(uri=f"s3://tuneloop/adapters/{digest}/", digest=f"sha256:{digest}")


def target(model_version: str | None, role: Literal["stable", "candidate", "control"], weight: int) -> RouteTarget:
    """One target of a route; None is the base model."""
    ref = adapter_ref(model_version) if model_version is not None else None
    return RouteTarget(model_version=model_version, adapter=ref, role=role, weight=weight)


def route(
    name: str, *targets: RouteTarget, revision: int = 1, salt: str = "salt", base_model: str = BASE_MODEL
) -> RouteUpdated:
    """A route; by default all traffic goes to the base model."""
    return RouteUpdated(
        route=name, revision=revision, salt=salt, base_model=base_model,
        targets=list(targets) or [target(None, "stable", 10_000)], updated_at=START,
    )


def canary(name: str, stable: str | None, candidate: str, weight: int, **fields: object) -> RouteUpdated:
    """A route with a candidate at `weight` basis points."""
    targets = target(stable, "stable", 10_000 - weight), target(candidate, "candidate", weight)
    return route(name, *targets, **fields)  # type: ignore[arg-type]


def ready(replica: str, endpoint: str, base_model: str = BASE_MODEL) -> ReplicaReady:
    """A replica that serves its base model."""
    return ReplicaReady(replica=replica, endpoint=endpoint, base_model=base_model)


def loaded(replica: str, endpoint: str, model_version: str, base_model: str = BASE_MODEL) -> AdapterLoaded:
    """A replica that serves an adapter."""
    return AdapterLoaded(replica=replica, endpoint=endpoint, base_model=base_model, model_version=model_version,
                         digest=adapter_ref(model_version).digest)


def unloaded(replica: str, endpoint: str, model_version: str) -> AdapterUnloaded:
    """A replica that no longer serves an adapter."""
    return AdapterUnloaded(replica=replica, endpoint=endpoint, base_model=BASE_MODEL, model_version=model_version,
                           digest=adapter_ref(model_version).digest)


def fact(payload: Payload, *, second: float = 0.0, sequence: int = 1) -> Event[Payload]:
    """An event that became true `second` seconds after `START`."""
    return Event(data=payload, source=payload.PRODUCER, time=START + timedelta(seconds=second), correlation_id="c",
                 sequence=sequence)
