"""Facts about evaluations: what was measured, and what the gates said."""

from typing import Literal

from pydantic import Field

from shared.events.common import ArtifactRef, DatasetRef, Distribution, Name, Value
from shared.events.envelope import Payload, Topic, event


class OutputCounts(Distribution):
    """How a model's answers are distributed in one feature of `shared.profiles`."""

    feature: str


class Measurement(Value):
    """Metrics of one model on one set of rows.

    Attributes:
        subject: which model: the new ``candidate``, the bare ``base``, or what is in ``production``.
        on: which rows: the candidate's own held-out split, or the held-out split that production was evaluated on.
        rows: how many.
        metrics: ``exact_match`` in [0, 1], not of texts; ``perplexity`` >= 1; ``bits_per_byte`` >= 0; of reward models
            ``pairwise_accuracy`` in [0, 1]; of what learned from a reward model, and what it is compared with,
            ``reward``, that model's mean score. Of each task of rows that have tasks, as ``METRIC/TASK``, too.
        outputs: what the answers look like; live answers are compared with it.
    """

    subject: Literal["candidate", "base", "production"]
    on: Literal["heldout", "production_heldout"]
    rows: int
    metrics: dict[str, float]
    outputs: list[OutputCounts] = Field(default_factory=list)


class GateResult(Value):
    """One gate with what it saw. `passed` is never true for a metric that was not measured."""

    gate: str
    passed: bool
    observed: float | None
    threshold: float
    reason: str


@event("evaluation.completed.v1", Topic.EVALUATIONS, producer="evaluator", consumers=("drift", "registry"))
class EvaluationCompleted(Payload):
    """A candidate was measured and judged. Only `passed` ones become model versions."""

    evaluation_id: str
    run_id: str
    pipeline: Name
    pipeline_version: int
    dataset: DatasetRef
    base_model: Name
    base_model_digest: str
    adapter: ArtifactRef
    passed: bool
    measurements: list[Measurement]
    gates: list[GateResult]
    production_model_version: str | None = None
    report_uri: str = Field(default="", description="S3 object with every row's prediction")

    def subject(self) -> str:
        return self.evaluation_id


@event("evaluation.failed.v1", Topic.EVALUATIONS, producer="evaluator", consumers=("registry",))
class EvaluationFailed(Payload):
    """The measuring itself failed after all attempts. The candidate goes nowhere."""

    evaluation_id: str
    run_id: str
    pipeline: Name
    reason: str

    def subject(self) -> str:
        return self.evaluation_id


@event("evaluation.repeated.v1", Topic.EVALUATIONS, producer="evaluator", consumers=("registry",))
class EvaluationRepeated(Payload):
    """What is in production was measured again. It changes no stage and no traffic: it is for people to see.

    Attributes:
        cause: ``schedule``, or ``drift`` where a drift.detected asked for it.
        dataset: the newest dataset version of the pipeline; its held-out rows were never trained on.
        passed: whether every gate that needs no comparison with production still holds.
    """

    evaluation_id: str
    run_id: str
    pipeline: Name
    pipeline_version: int
    model_version: str
    cause: Literal["schedule", "drift"]
    dataset: DatasetRef
    adapter: ArtifactRef
    passed: bool
    measurements: list[Measurement]
    gates: list[GateResult]
    report_uri: str = ""

    def subject(self) -> str:
        return self.evaluation_id
