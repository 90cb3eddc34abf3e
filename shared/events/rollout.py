"""Facts about rollouts and the route table."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from shared.events.common import ArtifactRef, Name, Value
from shared.events.envelope import Payload, Topic, event

Phase = Literal["staging", "progressing", "paused", "promoting", "aborting", "promoted", "rolled_back", "superseded"]


class RolloutPayload(Payload):
    """What every fact about a rollout says.

    Attributes:
        attempt: counts the rollouts of this model version; above 1 after a retry or an undo.
    """

    rollout_id: str
    pipeline: Name
    route: Name
    model_version: str
    attempt: int = 1

    def subject(self) -> str:
        return self.rollout_id


@event("rollout.progressed.v1", Topic.ROLLOUTS, producer="rollout", consumers=("registry",))
class RolloutProgressed(RolloutPayload):
    """A rollout entered a phase or a step. `weight` is the candidate's share in basis points (0 to 10000)."""

    phase: Phase
    step: int
    weight: int = Field(ge=0, le=10_000)
    reason: str


@event("rollout.promoted.v1", Topic.ROLLOUTS, producer="rollout", consumers=("registry",))
class RolloutPromoted(RolloutPayload):
    """The candidate has all traffic and is the route's stable version."""

    previous: str | None
    reason: str
    evidence: dict[str, float] = Field(default_factory=dict)


@event("rollout.rolled_back.v1", Topic.ROLLOUTS, producer="rollout", consumers=("registry",))
class RolloutRolledBack(RolloutPayload):
    """All traffic is back on stable.

    Attributes:
        guardrail: the one that fired; empty for a person's decision or a failed load.
        evidence: counts and e-value at the decision.
        seconds_exposed: from the candidate's first weight to its removal.
        users_exposed: distinct units that got the candidate, whichever gateways they met; None where unknown.
    """

    reason: str
    guardrail: str = ""
    evidence: dict[str, float] = Field(default_factory=dict)
    seconds_exposed: float | None = None
    users_exposed: int | None = None


@event("replica.forgotten.v1", Topic.ROLLOUTS, producer="rollout", consumers=())
class ReplicaForgotten(Payload):
    """A model server has reported nothing for long, while others have: rollouts do not wait for it any more.

    It counts as having nothing. With its next report it is waited for again.
    """

    replica: str
    base_model: Name
    seen_at: datetime

    def subject(self) -> str:
        return self.replica


class RouteCapture(Value):
    """Which requests of a route the gateway samples; the pipeline's `spec.capture`.

    Attributes:
        share: of the requests, 0.0 to 1.0.
        max_bytes: of one sample as JSON; longer ones are dropped.
        redact: scrub personal data and secrets first.
    """

    share: float = Field(ge=0, le=1)
    max_bytes: int
    redact: bool = True


class RouteTarget(Value):
    """One model behind a route.

    Attributes:
        model_version: ``route@number``, or None for the bare base model.
        adapter: where its weights are; None for the base model.
        role: what it is to the route.
        weight: share of traffic in basis points. 0 means: load it, send it nothing.
        shadow_share: of the requests that other targets answer, 0.0 to 1.0: it gets copies, whose answers nobody sees.
    """

    model_version: str | None
    adapter: ArtifactRef | None
    role: Literal["stable", "candidate", "control"]
    weight: int = Field(ge=0, le=10_000)
    shadow_share: float = Field(default=0.0, ge=0, le=1)


class CountedEvent(Value):
    """Something that gateways shall tell of whenever a unit meets it for the first time.

    Attributes:
        event: a guardrail's metric; ``served``: a version answers a unit that names itself; ``judged``: somebody
            judges an answer to a unit.
        seconds: of durations, the guardrail's bound.
    """

    event: str
    seconds: float | None = None


@event("route.updated.v1", Topic.ROUTES, producer="rollout", consumers=("gateway", "serving"))
class RouteUpdated(Payload):
    """The whole, new truth about a route. The highest `revision` wins; weights add up to 10000.

    Attributes:
        salt: of the split's hash; changes with each rollout, so that nobody is always the guinea pig.
        capture: which requests are sampled; None for none.
        counted: what the rollout in flight counts units by.
    """

    route: Name
    revision: int
    salt: str
    base_model: Name
    base_model_digest: str = ""
    targets: list[RouteTarget]
    updated_at: datetime
    capture: RouteCapture | None = None
    counted: list[CountedEvent] = Field(default_factory=list)

    def subject(self) -> str:
        return self.route
