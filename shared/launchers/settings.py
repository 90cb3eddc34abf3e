"""Which launcher a service uses."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.launchers.local import SubprocessLauncher
from shared.launchers.model import Launcher
from shared.settings import PREFIX


class LauncherSettings(BaseSettings):
    """Settings of a service that launches jobs; derive from this besides `ServiceSettings`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    launcher: Literal["subprocess"] = Field(default="subprocess", description="subprocess: jobs run on this machine")
    launcher_dir: Path = Field(default=Path(".tuneloop/jobs"), description="folder for job state and logs (subprocess)")


def launcher_from(settings: LauncherSettings) -> Launcher:
    """The launcher of `settings`."""
    return SubprocessLauncher(settings.launcher_dir)
