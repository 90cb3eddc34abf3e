"""The pipeline spec: what a person writes to say how an adapter is kept fresh.

    apiVersion: tuneloop.dev/v1
    kind: Pipeline
    metadata: {name: support-intents}
    spec: {baseModel: smollm2-135m-instruct, ...}

Keys are camelCase as in Kubernetes manifests; unknown keys are refused, so a typo is an error and not a default.
"""

import re
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from shared.errors import InvalidInputError

API_VERSION = "tuneloop.dev/v1"
_DURATION = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)$")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Seconds from ``20s``, ``10m``, ``1.5h``; numbers are seconds already."""
    if isinstance(value, int | float):
        return _seconds(float(value))
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write a number and a unit, such as 30s, 10m or 2h")
    return _seconds(float(match[1]) * _UNITS[match[2]])


def _seconds(value: float) -> timedelta:
    try:
        return timedelta(seconds=value)
    except OverflowError as error:
        raise ValueError(f"{value:g} seconds is longer than a duration can be") from error


def format_duration(value: timedelta) -> str:
    """The text that `parse_duration` reads back as the same value; never in exponents, which it does not read."""
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    Field(ge=timedelta(0), json_schema_extra={"type": "string", "format": "duration", "examples": ["30s", "10m"]}),
]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class SpecPart(BaseModel):
    """Base of all parts: camelCase keys, no unknown keys, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="forbid", frozen=True
    )


class DatasetRules(SpecPart):
    """What a row must look like, and how rows are split.

    The split is by a hash of the row's prompt, so a prompt never moves between splits when rows are added, and
    what production was tested on is never trained on by its successor.
    """

    max_row_bytes: int = Field(default=1_000_000, gt=0, description="longer rows are refused")
    min_rows: int = Field(default=20, ge=3, description="fewer good rows than this reject the dataset")
    max_rejected_share: float = Field(default=0.1, ge=0, le=1, description="more bad rows than this reject the dataset")
    validation_share: float = Field(default=0.1, gt=0, lt=0.5)
    test_share: float = Field(default=0.2, gt=0, lt=0.5)
    split_salt: str = Field(
        default="tuneloop", description="another salt draws another split, which breaks comparability"
    )


class LoraRecipe(SpecPart):
    """Low-rank adaptation (Hu et al., arXiv 2106.09685)."""

    rank: int = Field(default=8, ge=1, le=256)
    alpha: int = Field(default=16, ge=1, description="the update is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | list[str] = "all-linear"


class EarlyStopping(SpecPart):
    """Stop when the validation loss has not improved for `patience` validations."""

    patience: int = Field(default=3, ge=1)
    min_delta: float = Field(default=0.0, ge=0)


class TrainingRecipe(SpecPart):
    """How the adapter is trained."""

    method: Literal["lora"] = "lora"
    lora: LoraRecipe = Field(default_factory=LoraRecipe)
    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=16, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=512, ge=8, description="tokens; longer rows are cut at the right")
    seed: int = 17
    checkpoint_every_steps: int = Field(default=10, ge=1)
    validate_every_steps: int = Field(default=10, ge=1)
    early_stopping: EarlyStopping | None = None
    max_attempts: int = Field(default=3, ge=1, le=20)


class Gate(SpecPart):
    """A condition that the candidate must meet before it is registered.

    Give `min` or `max` for an absolute bound; `minDelta` or `maxDelta` for candidate minus `versus`, both on `on`.
    A gate against production passes with a note while nothing is in production.
    """

    metric: Literal["exact_match", "perplexity"]
    on: Literal["heldout", "production_heldout"] = "heldout"
    versus: Literal["base", "production"] | None = None
    min: float | None = None
    max: float | None = None
    min_delta: float | None = None
    max_delta: float | None = None

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

    max_new_tokens: int = Field(default=16, ge=1)
    max_rows: int = Field(default=200, ge=1, description="at most this many held-out rows are used, chosen by hash")
    batch_size: int = Field(default=16, ge=1)
    gates: list[Gate] = Field(default_factory=lambda: [Gate(metric="exact_match", min=0.5)], min_length=1)
    max_attempts: int = Field(default=3, ge=1, le=20)


class RolloutStep(SpecPart):
    """One step of a canary: the candidate's share of traffic, and the least that it must see there."""

    weight: float = Field(gt=0, le=100, description="percent of the route's traffic")
    min_duration: Duration = timedelta(seconds=60)
    min_requests: int = Field(default=20, ge=1, description="requests answered by the candidate in this step")


class Guardrail(SpecPart):
    """A harm that must not happen, as bad events over a total.

    Attributes:
        metric: ``errors``, or ``latency`` (requests slower than `sloSeconds`, which must be a histogram bucket).
        margin: the candidate is safe when its bad rate is surely below `margin` times stable's...
        tolerable_rate: ...or surely below this rate, whatever stable does.
        hard_limit: a bad share at which nothing needs proving after `hardLimitRequests` requests.
    """

    metric: Literal["errors", "latency"]
    slo_seconds: float | None = Field(default=None, gt=0)
    margin: float = Field(default=2.0, gt=1)
    tolerable_rate: float = Field(default=0.05, gt=0, lt=1)
    hard_limit: float | None = Field(default=0.5, gt=0, le=1)
    hard_limit_requests: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _slo_for_latency(self) -> "Guardrail":
        if (self.metric == "latency") != (self.slo_seconds is not None):
            raise ValueError("sloSeconds is needed for latency, and only there")
        return self


class RolloutPolicy(SpecPart):
    """How a registered version gets traffic, and what stops it."""

    route: Slug | None = Field(
        default=None, description="the model name that clients ask for; the pipeline's name by default"
    )
    steps: list[RolloutStep] = Field(
        default_factory=lambda: [RolloutStep(weight=10), RolloutStep(weight=50)], min_length=1
    )
    interval: Duration = timedelta(seconds=10)
    guardrails: list[Guardrail] = Field(default_factory=lambda: [Guardrail(metric="errors")], min_length=1)
    alpha: float = Field(default=0.05, gt=0, lt=1, description="bound on the chance to roll back a harmless version")
    beta: float = Field(default=0.05, gt=0, lt=1, description="bound on the chance to pass a step at the margin")
    deadline: Duration = timedelta(hours=2)
    load_deadline: Duration = timedelta(minutes=10)
    on_insufficient_evidence: Literal["extend", "pause", "rollback"] = "pause"

    @model_validator(mode="after")
    def _rising(self) -> "RolloutPolicy":
        weights = [step.weight for step in self.steps]
        if any(after <= before for before, after in pairwise(weights)):
            raise ValueError(f"steps: weights must rise, but they are {weights}")
        return self


class Triggers(SpecPart):
    """What starts a training run."""

    on_dataset: bool = True


class PipelineSpec(SpecPart):
    """The `spec` of a pipeline."""

    base_model: Slug
    dataset: DatasetRules = Field(default_factory=DatasetRules)
    training: TrainingRecipe = Field(default_factory=TrainingRecipe)
    evaluation: EvaluationRules = Field(default_factory=EvaluationRules)
    rollout: RolloutPolicy = Field(default_factory=RolloutPolicy)
    triggers: Triggers = Field(default_factory=Triggers)


class Metadata(SpecPart):
    """Who the pipeline is."""

    name: Slug
    labels: dict[str, str] = Field(default_factory=dict)


class Pipeline(SpecPart):
    """A whole pipeline document."""

    api_version: Literal["tuneloop.dev/v1"]
    kind: Literal["Pipeline"]
    metadata: Metadata
    spec: PipelineSpec

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
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInputError(f"{source}: not valid YAML{where}: {getattr(error, 'problem', error)}") from error
    except (ValueError, RecursionError) as error:  # such as a date that does not exist
        raise InvalidInputError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInputError(f"{source}: expected a mapping with apiVersion, kind, metadata and spec")
    try:
        return Pipeline.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'document'}: {_explain(item)}" for item in error.errors()
        )
        raise InvalidInputError(f"{source}: {problems}") from error


def _explain(item: Any) -> str:
    """One pydantic error in words that a person can act on."""
    if item["type"] == "extra_forbidden":
        return "unknown key; see docs/pipeline.md for the keys that exist"
    return str(item["msg"]).removeprefix("Value error, ")
