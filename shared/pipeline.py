"""The pipeline spec: what a person writes to say how an adapter is kept fresh.

    apiVersion: tuneloop.dev/v1
    kind: Pipeline
    metadata: {name: support-intents}
    spec: {baseModel: smollm2-135m-instruct, ...}

Keys are camelCase as in Kubernetes manifests; unknown keys are refused, so a typo is an error and not a default.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import yaml
from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from shared.built_in_policies import BUILT_IN
from shared.errors import InvalidInputError
from shared.gateway_metrics import COUNTED_BY_UNIT, SLO_BOUNDS
from shared.policy_checks import policy_problems
from shared.recipe import TrainingRecipe
from shared.recipe_checks import recipe_problems
from shared.resources import Resources
from shared.spec_part import Duration, Slug, SpecPart
from shared.strict_yaml import load_yaml
from shared.webhooks import Notification, Webhook

API_VERSION = "tuneloop.dev/v1"


def _cron(value: object) -> object:
    if not isinstance(value, str):
        return value
    if len(value.split()) != 5:
        raise ValueError(f"{value!r} does not have five fields: minute, hour, day of month, month, day of week")
    try:
        next(CronSim(value, datetime(2026, 1, 1, tzinfo=UTC)))
    except StopIteration as error:
        raise ValueError(f"{value!r} names a day that never comes") from error
    except CronSimError as error:
        raise ValueError(f"{value!r} is not a cron expression: {error}; 0 3 * * * is every day at 03:00 UTC") from error
    return value


class DatasetRules(SpecPart):
    """What a row must look like, and how rows are split.

    The split is by a hash of the row's prompt, so a prompt never moves between splits when rows are added, and
    what production was tested on is never trained on by its successor.
    """

    max_row_bytes: int = Field(default=1_000_000, gt=0, description="longer rows are refused")
    min_rows: int = Field(default=20, ge=3, description="fewer good rows than this reject the dataset")
    max_rejected_share: float = Field(default=0.1, ge=0, le=1, description="more bad rows than this reject the dataset")
    validation_share: float = Field(default=0.1, gt=0, lt=0.5, description="of the prompts, for early stopping")
    test_share: float = Field(default=0.2, gt=0, lt=0.5, description="of the prompts, held out for the evaluation")
    split_salt: str = Field(
        default="tuneloop", description="another salt draws another split, which breaks comparability"
    )


class Gate(SpecPart):
    """A condition that the candidate must meet before it is registered.

    Give `min` or `max` for an absolute bound; `minDelta` or `maxDelta` for candidate minus `versus`, both on `on`.
    A gate against production passes with a note while nothing is in production.
    """

    metric: Literal["exact_match", "perplexity"] = Field(
        description="exact_match is the share of answers that are right to the letter; perplexity is lower for better"
    )
    on: Literal["heldout", "production_heldout"] = Field(
        default="heldout",
        description="the held-out rows of the candidate's own dataset, or of the one that production was trained on",
    )
    versus: Literal["base", "production"] | None = Field(
        default=None, description="for minDelta and maxDelta: the model that the candidate is compared with"
    )
    min: float | None = Field(default=None, description="the candidate's metric is at least this")
    max: float | None = Field(default=None, description="the candidate's metric is at most this")
    min_delta: float | None = Field(default=None, description="candidate minus `versus` is at least this")
    max_delta: float | None = Field(default=None, description="candidate minus `versus` is at most this")

    @model_validator(mode="after")
    def _one_bound(self) -> "Gate":
        absolute = [bound for bound in (self.min, self.max) if bound is not None]
        relative = [bound for bound in (self.min_delta, self.max_delta) if bound is not None]
        if len(absolute) + len(relative) != 1:
            raise ValueError("give exactly one of min, max, minDelta, maxDelta")
        if relative and self.versus is None:
            raise ValueError("minDelta and maxDelta compare: add versus: base or versus: production")
        if absolute and self.versus is not None:
            raise ValueError("min and max are absolute bounds: remove versus, or use minDelta or maxDelta")
        return self


class EvaluationRules(SpecPart):
    """What is measured on the held-out split, and what must hold."""

    max_new_tokens: int = Field(default=16, ge=1, description="the longest answer, in tokens")
    max_rows: int = Field(default=200, ge=1, description="at most this many held-out rows are used, chosen by hash")
    batch_size: int = Field(default=16, ge=1, description="rows at once on the device")
    gates: list[Gate] = Field(
        default_factory=lambda: [Gate(metric="exact_match", min=0.5)], min_length=1,
        description="all of them must hold",
    )
    max_attempts: int = Field(default=3, ge=1, le=20, description="launches of the job before it has failed")
    resources: Resources = Field(default_factory=Resources, description="what the job asks for")


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
        "something bad, which holds however bad requests cling to users; for errors and durations. "
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


class CaptureRules(SpecPart):
    """Samples of the route's traffic, as events for evaluation and for tomorrow's datasets.

    Absent: nothing is captured. docs/gateway.md says what a sample holds, what is scrubbed, and what may be lost.
    """

    share: float = Field(ge=0, le=1, description="of the requests, drawn by a hash of the request's id")
    max_bytes: int = Field(
        default=65_536, ge=1024, le=524_288, description="longer samples, as JSON, are dropped and never cut"
    )
    redact: bool = Field(
        default=True, description="scrub mail addresses, phone, card and account numbers, IP addresses and secrets"
    )


DriftFeature = Literal[
    "prompt_length", "words", "ngrams", "language", "topic", "embeddings", "answer_length", "refusals", "surprisal"
]


class OnDrift(SpecPart):
    """What follows when live traffic no longer looks like the dataset and the evaluation; docs/drift.md.

    It needs `spec.capture`. Nothing is ever rolled back for drift: it is no proof of harm.
    """

    action: Literal["reevaluate", "retrain", "notify"] = Field(
        default="notify",
        description="measure production on the newest held-out rows, train on the newest dataset, or only say it",
    )
    features: list[DriftFeature] | None = Field(
        default=None, min_length=1, description="only these can raise an alarm; all are measured"
    )
    cooldown: Duration = Field(
        default=timedelta(days=1), description="no second alarm of a model version within this time"
    )
    window_samples: int = Field(
        default=200, ge=50, le=2000, description="samples that are compared with the reference at once"
    )
    average_run: int = Field(
        default=1000, ge=10, le=1_000_000,
        description="without drift, at least this many windows pass between two alarms, on average",
    )


class ReevaluateOn(SpecPart):
    """Measuring what is in production again and again."""

    cron: Annotated[str, BeforeValidator(_cron)] = Field(
        description="five fields in UTC, such as 0 3 * * *; ticks that were missed are made up for once"
    )


class Triggers(SpecPart):
    """What starts a training run or an evaluation by itself."""

    on_dataset: bool = Field(default=True, description="train when a dataset of this pipeline was prepared")
    on_drift: OnDrift = Field(default_factory=OnDrift, description="what follows when drift was detected")
    reevaluate: ReevaluateOn | None = Field(default=None, description="absent: production is not measured again")


class PipelineSpec(SpecPart):
    """The `spec` of a pipeline."""

    base_model: Slug = Field(description="name of the model that is adapted, as stored under base-models/ in S3")
    dataset: DatasetRules = Field(default_factory=DatasetRules, description="what a row must look like")
    training: TrainingRecipe = Field(default_factory=TrainingRecipe, description="how the adapter is trained")
    evaluation: EvaluationRules = Field(default_factory=EvaluationRules, description="what must hold before it is used")
    rollout: RolloutPolicy = Field(default_factory=RolloutPolicy, description="how it gets traffic")
    triggers: Triggers = Field(default_factory=Triggers, description="what starts a run")
    capture: CaptureRules | None = Field(default=None, description="absent: no request is kept")


class Metadata(SpecPart):
    """Who the pipeline is."""

    name: Slug = Field(description="unique in a registry; also the route, unless `spec.rollout.route` says otherwise")
    labels: dict[str, str] = Field(default_factory=dict, description="your own words; they change nothing")


class Pipeline(SpecPart):
    """A whole pipeline document."""

    api_version: Literal["tuneloop.dev/v1"] = Field(description="the version of this format")
    kind: Literal["Pipeline"] = Field(description="what the document is")
    metadata: Metadata = Field(description="who the pipeline is")
    spec: PipelineSpec = Field(description="what it does")

    @property
    def route(self) -> str:
        """The model name that clients ask the gateway for."""
        return self.spec.rollout.route or self.metadata.name


def parse_pipeline(text: str, *, source: str = "pipeline") -> Pipeline:
    """The pipeline in a YAML document.

    Raises:
        InvalidInputError: naming the line or the key that is wrong, every one of them.
    """
    try:
        document: Any = load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInputError(f"{source}: not valid YAML{where}: {getattr(error, 'problem', error)}") from error
    except (ValueError, RecursionError) as error:  # such as a date that does not exist
        raise InvalidInputError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInputError(f"{source}: expected a mapping with apiVersion, kind, metadata and spec")
    try:
        pipeline = Pipeline.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'document'}: {_explain(item)}" for item in error.errors()
        )
        raise InvalidInputError(f"{source}: {problems}") from error
    found = [f"spec.training.{path}: {problem}" for path, problem in recipe_problems(pipeline.spec.training)]
    found += [f"spec.rollout.{path}: {problem}" for path, problem in policy_problems(pipeline.spec.rollout)]
    if found:
        raise InvalidInputError(f"{source}: {'; '.join(found)}")
    return pipeline


def _explain(item: Any) -> str:
    """One pydantic error in words that a person can act on."""
    if item["type"] == "extra_forbidden":
        return "unknown key; see docs/pipeline.md for the keys that exist"
    return str(item["msg"]).removeprefix("Value error, ")
