"""Facts about training runs."""

from pydantic import Field

from shared.events.common import ArtifactRef, DatasetRef, Name
from shared.events.envelope import Payload, Topic, event


class RunPayload(Payload):
    """What every fact about a run says."""

    run_id: str
    pipeline: Name
    pipeline_version: int

    def subject(self) -> str:
        return self.run_id


@event("training.started.v1", Topic.RUNS, producer="trainer", consumers=("registry",))
class TrainingStarted(RunPayload):
    """An attempt was launched. Attempts count from 1.

    Attributes:
        start: the adapter that it goes on from.
        earlier: the dataset version of an earlier task, whose rows are replayed or held on to.
    """

    dataset: DatasetRef
    base_model: Name
    attempt: int
    job: str
    start: ArtifactRef | None = None
    earlier: ArtifactRef | None = None


@event("training.progressed.v1", Topic.RUNS, producer="trainer", consumers=("registry",))
class TrainingProgressed(RunPayload):
    """Where the run stands. `loss` and `validation_loss` are mean nats per trained token.

    Attributes:
        chosen: what the recipe left open, by its key: what was chosen, and why.
    """

    attempt: int
    step: int
    total_steps: int
    loss: float | None = None
    validation_loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    chosen: dict[str, str] = Field(default_factory=dict)


@event("training.retried.v1", Topic.RUNS, producer="trainer", consumers=("registry",))
class TrainingRetried(RunPayload):
    """A person lets a run that had failed, or was cancelled, go on from its newest checkpoint; `attempt` comes next."""

    attempt: int
    reason: str


@event("training.completed.v1", Topic.RUNS, producer="trainer", consumers=("evaluator", "registry"))
class TrainingCompleted(RunPayload):
    """The adapter is in S3. `start` and `earlier` are those of `training.started`.

    Attributes:
        chosen: what the recipe left open, by its key: what was chosen, and why.
    """

    dataset: DatasetRef
    base_model: Name
    base_model_digest: str
    adapter: ArtifactRef
    attempt: int
    steps: int
    metrics: dict[str, float] = Field(default_factory=dict)
    chosen: dict[str, str] = Field(default_factory=dict)
    start: ArtifactRef | None = None
    earlier: ArtifactRef | None = None


@event("training.failed.v1", Topic.RUNS, producer="trainer", consumers=("registry",))
class TrainingFailed(RunPayload):
    """All attempts failed, or the run was cancelled; `reason` is for people."""

    attempt: int
    reason: str
