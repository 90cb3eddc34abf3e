"""Jobs: work that takes minutes or hours, in a process of its own that outlives the service that started it.

A service launches a job by name and then looks at it, again and again, from any of its replicas and across its own
restarts. `Launcher` is what services know; `SubprocessLauncher` runs jobs on this machine. The interface is that of
a Kubernetes Job: create by name (already there is success), get, delete, read logs.
"""

from shared.launchers.local import SubprocessLauncher
from shared.launchers.model import JobSpec, JobState, JobStatus, Launcher, job_name
from shared.launchers.settings import LauncherSettings, launcher_from

__all__ = [
    "JobSpec",
    "JobState",
    "JobStatus",
    "Launcher",
    "LauncherSettings",
    "SubprocessLauncher",
    "job_name",
    "launcher_from",
]
