"""`spec.rollout` of a pipeline: its steps, and the policy as a whole."""

from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from shared.built_in_policies import BUILT_IN
from shared.pipeline.counted import AbTest, Guardrail, Objective
from shared.spec_part import Duration, Slug, SpecPart
from shared.webhooks import Notification, Webhook


class _Stage(SpecPart):
    """What any stage of a rollout must have before the next one begins."""

    min_duration: Duration = Field(default=timedelta(seconds=60), description="the step lasts at least this long")
    min_requests: int = Field(default=20, ge=1, description="requests answered by the candidate in this step")
    approval: bool = Field(
        default=False, description="when all is proved, wait for a person: `tuneloop rollouts resume`"
    )


class RolloutStep(_Stage):
    """One step of a canary: the candidate's share of traffic, and the least that it must see there."""

    weight: float = Field(gt=0, le=100, description="percent of the route's traffic")


class ShadowStep(_Stage):
    """The step before all others: the candidate gets copies of requests, and nobody sees its answers."""

    percent: float = Field(gt=0, le=100, description="of the requests that the stable version answers well")


class RollbackWindow(SpecPart):
    """Which earlier versions `tuneloop rollouts undo` may put back at once. Others go through all steps again."""

    duration: Duration = Field(
        default=timedelta(hours=1), description="since the version was replaced as the stable one; 0s turns it off"
    )
    revisions: int = Field(default=1, ge=1, description="how many versions back")


class ExpectedTraffic(SpecPart):
    """What the route gets, as far as its owner knows. Only for plans: it decides nothing."""

    requests_per_minute: float = Field(gt=0, description="of the whole route, on an ordinary day")
    bad_rate: float = Field(default=0.01, ge=0, lt=1, description="stable's share of bad events on each guardrail")
    bad_rates: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict, description="the same for some by name: `{thumbs_down: 0.1, latency>2.5s: 0.05}`"
    )


class RolloutPolicy(SpecPart):
    """How a registered version gets traffic, and what stops it."""

    policy: Literal["staged"] | None = Field(
        default=None,
        description="a built-in policy: canary at 5 %, staging at 10 %, then all traffic (docs/rollouts.md has its "
        "keys); a key that is given beside it replaces its own",
    )
    route: Slug | None = Field(
        default=None, description="the model name that clients ask for; the pipeline's name by default"
    )
    steps: list[RolloutStep] = Field(
        default_factory=lambda: [RolloutStep(weight=10), RolloutStep(weight=50)], min_length=1,
        description="weights must rise; after the last step the candidate gets all traffic",
    )
    shadow: ShadowStep | None = Field(
        default=None, description="copies before any traffic; absent: the first step is the first of `steps`"
    )
    control: bool = Field(
        default=False,
        description="compare with a control: the stable version under a second name, which gets as much traffic as the "
        "candidate; weights are then at most 50",
    )
    interval: Duration = Field(default=timedelta(seconds=10), description="between two looks at the metrics")
    guardrails: list[Guardrail] = Field(
        default_factory=lambda: [Guardrail(metric="errors")], min_length=1,
        description="each can roll back by itself; all must be safe before the next step",
    )
    ab_test: AbTest | None = Field(
        default=None, description="makes the rollout an A/B test, with its one step as the fixed split"
    )
    objectives: list[Objective] = Field(
        default_factory=list, description="what must be proved before the candidate gets all traffic, beside safety"
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=1,
        description="bound on the chance to roll back a harmless version, and on that of a wrong answer of an A/B test "
        "and of each objective",
    )
    beta: float = Field(default=0.05, gt=0, lt=1, description="bound on the chance to pass a step at the margin")
    deadline: Duration = Field(default=timedelta(hours=2), description="of a whole rollout, from its first weight")
    load_deadline: Duration = Field(
        default=timedelta(minutes=10), description="until every replica has loaded the adapter; then rolled back"
    )
    on_insufficient_evidence: Literal["extend", "pause", "rollback"] = Field(
        default="pause", description="what happens at the deadline where nothing is proved; never silent success"
    )
    rollback_window: RollbackWindow = Field(
        default_factory=RollbackWindow, description="how far back an undo needs no new analysis"
    )
    expected_traffic: ExpectedTraffic | None = Field(
        default=None, description="lets `tuneloop apply` warn of a deadline that cannot be met; it decides nothing"
    )
    webhooks: list[Webhook] = Field(
        default_factory=list, description="HTTP calls that may hold the rollout, end it, or only hear of it"
    )
    notifications: list[Notification] | None = Field(
        default=None, description="who is told what happens; absent: as TUNELOOP_NOTIFICATIONS of the service says"
    )

    @model_validator(mode="before")
    @classmethod
    def _built_in(cls, given: Any) -> Any:
        name = given.get("policy") if isinstance(given, dict) else None
        return {**BUILT_IN[name], **given} if isinstance(name, str) and name in BUILT_IN else given

    @model_validator(mode="after")
    def _rising(self) -> "RolloutPolicy":
        weights = [step.weight for step in self.steps]
        if any(after <= before for before, after in pairwise(weights)):
            raise ValueError(f"steps: weights must rise, but they are {weights}")
        return self

    @property
    def goals(self) -> "list[AbTest | Objective]":
        """All that the candidate is compared by, beside guardrails."""
        return [*([self.ab_test] if self.ab_test else []), *self.objectives]

    @property
    def stages(self) -> "list[ShadowStep | RolloutStep]":
        """All steps in their order, with that of the copies before the others."""
        return [*([self.shadow] if self.shadow else []), *self.steps]
