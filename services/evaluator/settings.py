"""The evaluator's settings, and those of the job that it launches."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.launchers import LauncherSettings
from shared.settings import PREFIX, S3Settings, ServiceSettings


class JobSettings(S3Settings):
    """What the evaluation job reads from its environment, which is the service's."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    cache_dir: Path = Field(
        default=Path(".tuneloop/cache"), description="folder where jobs keep base models between runs, by digest"
    )


class EvaluatorSettings(ServiceSettings, LauncherSettings, JobSettings):
    """What the evaluator needs besides what every service does."""

    service: ClassVar[str] = "evaluator"

    evaluation_timeout_seconds: float = Field(
        default=3600.0, gt=0, description="an evaluation job that runs longer is ended and tried again"
    )
