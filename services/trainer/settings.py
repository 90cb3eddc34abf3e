"""The trainer's settings."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shared.launchers import LauncherSettings
from shared.settings import S3Settings, ServiceSettings

CACHE_DIR = Path(".tuneloop/cache")


class TrainerSettings(ServiceSettings, LauncherSettings):
    """How many runs at once, and how they are watched."""

    service: ClassVar[str] = "trainer"

    max_concurrent_runs: int = Field(default=1, ge=1, description="runs beyond this number wait; one fills one machine")
    progress_seconds: float = Field(default=5.0, ge=0, description="at most one training.progressed a run in this time")
    training_timeout_seconds: float = Field(
        default=86_400.0, gt=0, description="a longer attempt is ended; the next one goes on from its checkpoint"
    )
    cache_dir: Path = Field(
        default=CACHE_DIR, description="where jobs on this machine, which read it themselves, keep base models"
    )


class JobSettings(S3Settings):
    """What the launched job reads from its environment."""

    cache_dir: Path = Field(default=CACHE_DIR, description="where base models are kept between runs")
