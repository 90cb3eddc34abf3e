"""Facts about drift: live traffic does not look like what a model version was made for."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from shared.events.common import Name, Value
from shared.events.envelope import Payload, Topic, event


class BucketShare(Value):
    """A bucket's share in the reference and in a window, 0.0 to 1.0."""

    bucket: str
    reference: float
    window: float


class DriftEvidence(Value):
    """One feature whose alarm was raised.

    Attributes:
        kind: ``input`` is compared with the dataset, ``output`` with the evaluation.
        statistic: PSI of the last window, or MMD for embeddings.
        threshold: what 99 of 100 windows without drift stay below, for these sample sizes.
        p_value: of the last window.
        evidence: the e-detector's value, which raised the alarm by reaching `evidence_threshold`.
        window_samples: live samples of the last window.
        reference_samples: rows that the reference is of.
        windows: windows since the evidence last was reset.
        largest: the buckets that changed most.
    """

    feature: str
    kind: Literal["input", "output"]
    statistic: float
    threshold: float
    p_value: float
    evidence: float
    evidence_threshold: float
    window_samples: int
    reference_samples: int
    windows: int
    largest: list[BucketShare] = Field(default_factory=list)


@event("drift.detected.v1", Topic.DRIFT, producer="drift", consumers=("evaluator", "trainer"))
class DriftDetected(Payload):
    """Live requests or answers are not like the reference. That is no proof of harm: nothing is rolled back for it.

    Attributes:
        action: what the pipeline wants to follow.
        reference: digest of the dataset version that the model version was trained on.
        window_began: when the first sample of the last window was taken; `window_ended` the last one.
        average_run: windows between two false alarms of this route and model version, on average, at least.
        examples: request ids of the last window's samples, some of them.
    """

    drift_id: str
    pipeline: Name
    route: Name
    model_version: str
    action: Literal["reevaluate", "retrain", "notify"]
    reference: str
    evidence: list[DriftEvidence]
    window_began: datetime
    window_ended: datetime
    average_run: int
    examples: list[str] = Field(default_factory=list)

    def subject(self) -> str:
        return self.route
