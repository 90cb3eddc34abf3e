"""What the service and its job tell each other, as objects in S3 below ``evaluations/<id>/<attempt>/``.

    job.json           what to measure; the service writes it before it launches the job
    progress.json      how far the job is, now and then
    predictions.jsonl  every row with what each model said
    result.json        the measurements; written last, so its presence means that all is there
    failure.json       `shared.jobs.JobFailure`: what went wrong, in words for people

Pure: both sides import it, and the service has no torch.
"""

from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from shared.events import ArtifactRef, DatasetRef, Measurement, ModelRef

Subject = Literal["candidate", "base", "production"]
Rows = Literal["heldout", "production_heldout"]

JOB, PROGRESS, PREDICTIONS, RESULT, FAILURE = (
    "job.json", "progress.json", "predictions.jsonl", "result.json", "failure.json"
)


class Target(NamedTuple):
    """One measurement to make: which model, on which rows."""

    subject: Subject
    on: Rows


class File(BaseModel):
    """Base of the objects: immutable; unknown fields are ignored, so that an old job may outlive a deployment.

    Measured numbers may be NaN or infinite, and stay so: that is a finding, which the gates refuse.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")


class JobFile(File):
    """What to measure.

    Attributes:
        base: the base model's folder.
        candidate: the new adapter.
        dataset: of the candidate; its test split is ``heldout``.
        production: what is in production; the test split of its dataset is ``production_heldout``.
        output: the S3 folder of this attempt.
        fresh: measure also what was measured before.
    """

    evaluation_id: str
    attempt: int
    base_model: str
    base: ArtifactRef
    candidate: ArtifactRef
    dataset: DatasetRef
    production: ModelRef | None
    targets: list[Target]
    max_new_tokens: int
    max_rows: int
    batch_size: int
    output: str
    fresh: bool = False


class Progress(File):
    """How far the job is: `done` of `total` rows, counted once for each measurement."""

    doing: str
    done: int
    total: int
    at: datetime


class Result(File):
    """The measurements, in the order of the job's targets."""

    measurements: list[Measurement]
    seconds: float
