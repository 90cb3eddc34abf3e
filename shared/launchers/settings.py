"""Which launcher a service uses."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from shared.clock import SystemClock
from shared.launchers.kubernetes.settings import KubernetesSettings
from shared.launchers.local import SubprocessLauncher
from shared.launchers.model import Launcher


class LauncherSettings(KubernetesSettings):
    """Settings of a service that launches jobs; derive from this besides `ServiceSettings`."""

    launcher: Literal["subprocess", "kubernetes"] = Field(
        default="subprocess", description="subprocess: jobs run on this machine; kubernetes: as Jobs, see docs/jobs.md"
    )
    launcher_dir: Path = Field(default=Path(".tuneloop/jobs"), description="folder for job state and logs (subprocess)")

    @model_validator(mode="after")
    def _complete(self) -> "LauncherSettings":
        if self.launcher == "kubernetes" and not self.job_image:
            raise ValueError("TUNELOOP_LAUNCHER is kubernetes: set TUNELOOP_JOB_IMAGE to the image that jobs run")
        return self


def launcher_from(settings: LauncherSettings) -> Launcher:
    """The launcher of `settings`.

    Raises:
        InvalidInputError: jobs shall run on Kubernetes, and it is not known where that is.
    """
    if settings.launcher == "kubernetes":
        # Its client takes a while to import, and is not installed everywhere.
        from shared.launchers.kubernetes.api import connect
        from shared.launchers.kubernetes.launcher import KubernetesLauncher

        return KubernetesLauncher(settings, connect(settings), SystemClock(), os.environ)
    return SubprocessLauncher(settings.launcher_dir, settings.job_grace_seconds)
