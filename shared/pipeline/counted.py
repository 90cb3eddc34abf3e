"""What a rollout counts, and what follows from it: guardrails, A/B tests and objectives of `spec.rollout`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from shared.gateway_metrics import COUNTED_BY_UNIT, SLO_BOUNDS
from shared.spec_part import Slug, SpecPart


class Counted(SpecPart):
    """Bad events over a total. docs/rollouts.md says what each metric counts."""

    metric: Literal[
        "errors", "latency", "time_to_first_token", "inter_token", "thumbs_down", "refusals", "invalid_output", "promql"
    ] = Field(description="what is counted; `promql` counts what `bad` and `total` say")
    slo_seconds: float | None = Field(
        default=None, gt=0,
        description="for latency, time_to_first_token and inter_token: the longest good duration; must be one of the "
        "gateway's buckets",
    )
    name: Slug | None = Field(default=None, description="for promql: what people and metrics call it")
    bad: str | None = Field(
        default=None, description="for promql: counters of bad events, with + between them, and `$version` in each"
    )
    total: str | None = Field(default=None, description="for promql: counters of all events, in the same way")
    missing_bad_is_zero: bool = Field(
        default=False,
        description="for promql: where `total` is there and `bad` has no series, nothing bad happened; for exporters "
        "that make a series at its first event. A misspelt `bad` then never finds harm",
    )

    @model_validator(mode="after")
    def _what_the_metric_needs(self) -> Self:
        if (self.metric in SLO_BOUNDS) != (self.slo_seconds is not None):
            raise ValueError("sloSeconds is needed for latency, time_to_first_token and inter_token, and only there")
        queried = [("name", self.name), ("bad", self.bad), ("total", self.total)]
        if self.metric == "promql":
            missing = [key for key, value in queried if value is None]
            if missing:
                raise ValueError(f"metric: promql needs name, bad and total; add {' and '.join(missing)}")
        elif given := [key for key, value in queried if value is not None]:
            raise ValueError(f"{' and '.join(given)}: only for metric: promql")
        return self

    @property
    def called(self) -> str:
        """How people and metrics call it: ``errors``, ``latency>0.5s``, or its own name."""
        if self.name is not None:
            return self.name
        return self.metric if self.slo_seconds is None else f"{self.metric}>{self.slo_seconds:g}s"


class Guardrail(Counted):
    """A harm that must not happen."""

    margin: float = Field(
        default=2.0, gt=1, description="safe when the candidate's bad rate is surely below this many times stable's..."
    )
    tolerable_rate: float = Field(
        default=0.05, gt=0, lt=1, description="...or surely below this rate, whatever stable does"
    )
    count_by: Literal["auto", "unit", "request"] = Field(
        default="auto",
        description="what harm is proved by. `unit`: users (or sessions, or requests that name none) that met "
        "something bad, which holds however bad requests cling to users; not for promql. "
        "`request`: every bad request, taken for independent. `auto`: by unit where gateways count them, else by the "
        "candidate's share of the bad requests of each look",
    )
    hard_limit: float | None = Field(
        default=0.5, gt=0, le=1, description="a bad share at which nothing needs proving, after `hardLimitRequests`"
    )
    hard_limit_requests: int = Field(default=20, ge=1, description="the candidate's requests before `hardLimit` acts")

    @model_validator(mode="after")
    def _units_that_are_counted(self) -> Self:
        if self.count_by == "unit" and self.metric not in COUNTED_BY_UNIT:
            raise ValueError(f"countBy: unit: gateways do not count users by {self.metric}; use auto or request")
        return self


class _Compared(Counted):
    """Events whose share is better in one version than in another."""

    direction: Literal["lower", "higher"] = Field(
        default="lower", description="which share is better; `higher` where `bad` counts what is wanted"
    )


class AbTest(_Compared):
    """What decides an A/B test: which version has the better share of these events. Guardrails protect meanwhile.

    The candidate wins when it is surely better by more than `minEffect`, and loses when it surely is not.
    """

    min_effect: float = Field(
        default=0.0, ge=0, lt=1, description="the least difference of the shares that is worth it; 0.02 is 2 points"
    )

    @property
    def bound(self) -> float:
        """By how much the candidate's share must surely be better."""
        return self.min_effect


class Objective(_Compared):
    """What the candidate must be proved to be better, or not worse, at before it gets all traffic.

    It is met when the candidate's share is surely better by more than `margin`, or surely not worse by as much. Where
    it surely is not, the rollout ends with a rollback.
    """

    # All that any part may count, and the mean score, which is no share of events that guardrails could count.
    metric: Literal[
        "errors", "latency", "time_to_first_token", "inter_token", "thumbs_down", "refusals", "invalid_output",
        "feedback_score", "promql",
    ] = Field(  # type: ignore[assignment]
        description="what is counted; `promql` counts what `bad` and `total` say; `feedback_score` is the mean of "
        "first judgements' scores, 0 for as bad as can be and 1 for as good"
    )
    goal: Literal["better", "not_worse"] = Field(
        default="better", description="superior, or not inferior by more than `margin`"
    )
    margin: float = Field(
        default=0.0, ge=0, lt=1,
        description="of the shares; 0.02 is 2 points. For not_worse: the least difference that matters",
    )

    @property
    def bound(self) -> float:
        """By how much the candidate's share must surely be better; negative where it may be worse."""
        return self.margin if self.goal == "better" else -self.margin
