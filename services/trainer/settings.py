"""The trainer's settings."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from services.trainer.files import TrackerName
from shared.launchers import LauncherSettings
from shared.settings import S3Settings, ServiceSettings, split_commas

CACHE_DIR = Path(".tuneloop/cache")


class TrainerSettings(ServiceSettings, LauncherSettings):
    """How many runs at once, and how they are watched."""

    service: ClassVar[str] = "trainer"

    max_concurrent_runs: int = Field(
        default=1, ge=1,
        description="runs at once on a hardware class that TUNELOOP_CONCURRENT_RUNS does not name; one fills a machine",
    )
    concurrent_runs: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict,
        description='runs at once by hardware class, as JSON: {"a100": 4, "default": 1}; others wait: docs/training.md',
    )
    queue_aging_seconds: float = Field(
        default=3600.0, gt=0, description="a waiting run gains one priority in this time, so that none waits for ever"
    )
    hourly_prices: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description='what an hour of one GPU costs, or of a machine where jobs have none, by hardware class, as JSON: '
        '{"a100": 2.5}; for training.limits.cost',
    )
    progress_seconds: float = Field(default=5.0, ge=0, description="at most one training.progressed a run in this time")
    training_timeout_seconds: float = Field(
        default=86_400.0, gt=0, description="a longer attempt is ended; the next one goes on from its checkpoint"
    )
    trackers: Annotated[list[TrackerName], NoDecode, BeforeValidator(split_commas)] = Field(
        default_factory=list,
        description="where runs are tracked beside TensorBoard's files: mlflow, wandb, or both with a comma between; "
        "their own variables (MLFLOW_TRACKING_URI, WANDB_API_KEY) belong into the jobs' environment",
    )
    cache_dir: Path = Field(
        default=CACHE_DIR, description="where jobs on this machine, which read it themselves, keep base models"
    )


    def places(self, hardware: str) -> int:
        """Runs at once on a hardware class."""
        return self.concurrent_runs.get(hardware, self.max_concurrent_runs)


class JobSettings(S3Settings):
    """What the launched job reads from its environment."""

    cache_dir: Path = Field(default=CACHE_DIR, description="where base models are kept between runs")
