"""The files by which the service and its job speak, in S3 under ``runs/<run>/<attempt>/``."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.trainer.job.rates import Sweep
from shared.events import ArtifactRef, DatasetRef
from shared.recipe import TrainingRecipe

TrackerName = Literal["mlflow", "wandb"]


class JobInput(BaseModel):
    """``job.json``: everything that the job must know. Written by the service before the launch.

    Attributes:
        prefix: where the job writes, ``runs/<run>/<attempt>/``.
        resume_from: prefixes with checkpoints of this run's attempts, the newest attempt first.
        trackers: where the run is tracked beside TensorBoard's files.
        start: the adapter to go on from; None for a new one.
        earlier: the dataset version of an earlier task, for `recipe.forgetting`; None where there is none.
        judge: the reward model that `recipe.reward` names by its model version; None where it names none so.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    pipeline: str
    attempt: int
    prefix: str
    dataset: DatasetRef
    base_model: str
    recipe: TrainingRecipe
    resume_from: list[str]
    trackers: list[TrackerName] = Field(default_factory=list)
    start: ArtifactRef | None = None
    earlier: ArtifactRef | None = None
    judge: ArtifactRef | None = None


class Progress(BaseModel):
    """``progress.json``: where the job stands. Losses are mean nats per trained token.

    Attributes:
        chosen: what the recipe left open, by its key: what was chosen, and why.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: int
    total_steps: int
    loss: float | None = None
    validation_loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    chosen: dict[str, str] = Field(default_factory=dict)


class Result(BaseModel):
    """``result.json``: what came out. Written last.

    Attributes:
        chosen: what the recipe left open, by its key: what was chosen, and why.
        range_test: the one that chose the learning rate; None where the recipe wanted none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    adapter: ArtifactRef
    base_model_digest: str
    steps: int
    metrics: dict[str, float] = Field(default_factory=dict)
    chosen: dict[str, str] = Field(default_factory=dict)
    range_test: Sweep | None = None


def prefix_of(run_id: str, attempt: int) -> str:
    """Where an attempt's files are."""
    return f"runs/{run_id}/{attempt}/"


def settled_of(run_id: str) -> str:
    """Where a run keeps what its recipe left open, for all of its attempts."""
    return f"runs/{run_id}/settled.json"


def checkpoints_of(run_id: str, attempts: int) -> list[str]:
    """Where attempts 1 to `attempts` leave their checkpoints, the newest first."""
    return [f"{prefix_of(run_id, number)}checkpoints/" for number in range(attempts, 0, -1)]
