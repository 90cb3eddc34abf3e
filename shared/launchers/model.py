"""What a job is, how it stands, and what every launcher can do. Pure."""

import hashlib
import re
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

JobState = Literal["absent", "pending", "running", "succeeded", "failed"]

# Of the 63 characters of a DNS label, six are left for what Kubernetes adds: a pod's name and a node's index.
_NAME_LENGTH = 57
_HASH_LENGTH = 8


class JobSpec(BaseModel):
    """A job to run: ``python -m module args``.

    Attributes:
        name: unique per attempt of a piece of work, and a DNS label, as Kubernetes wants it; `job_name` makes one.
        env: added to the environment that the launcher gives to all jobs. Not for secrets: they end up in the job's
            description. S3 credentials are in the common environment already.
        labels: what the job is for, such as its run: written where the job runs, for people and tools.
        cpu: cores that the job may count on, on each node.
        memory: bytes that the job may count on, on each node.
        gpu: number of GPUs on each node. With more than one, a process is started for each of them by torchrun.
        nodes: machines that work together.
        hardware: name of a class of nodes that the launcher's settings describe.
        timeout_seconds: ended as failed after this long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    module: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    cpu: float | None = Field(default=None, gt=0)
    memory: int | None = Field(default=None, gt=0)
    gpu: int | None = Field(default=None, ge=0)
    nodes: int = Field(default=1, ge=1)
    hardware: str | None = None
    timeout_seconds: float | None = Field(default=None, gt=0)


class JobStatus(BaseModel):
    """How a job stands.

    Attributes:
        state: `absent` was never launched here, or was removed; `failed` includes killed, cancelled and timed out.
        exit_code: of the ended process; 128 + N where signal N ended it; None where nobody could see it end.
        message: for people: what happened, or what it waits for, and the end of the log where the job failed.
        logs: for people: how to read what the job writes.
    """

    model_config = ConfigDict(frozen=True)

    state: JobState
    exit_code: int | None = None
    message: str = ""
    logs: str = ""


class Launcher(Protocol):
    """Runs jobs somewhere. All methods may be called from any replica, at any time, more than once."""

    def launch(self, spec: JobSpec) -> None:
        """Start a job. One that was launched under this name before is left as it is, even if it has ended.

        Raises:
            TemporaryError: it could not be started now.
            PermanentError: it can never be started: the name is somebody else's, or what it asks for cannot be.
        """
        ...

    def observe(self, name: str) -> JobStatus:
        """How the job stands now."""
        ...

    def cancel(self, name: str) -> None:
        """Ask the job and everything that it started to end, and make it end soon. Returns at once.

        Afterwards the job becomes `failed` or `absent`; one that has ended before stays as it was.
        """
        ...

    def logs(self, name: str) -> str:
        """The last lines that the job wrote; empty where there are none."""
        ...


def job_name(*parts: str | int) -> str:
    """A valid and unique job name from ids, readable as far as its length allows.

    What has to be changed or cut is replaced by a hash of the whole, so that different parts give different names.
    """
    whole = "-".join(str(part) for part in parts)
    name = re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-")
    if name == whole and len(name) <= _NAME_LENGTH:
        return name
    tail = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_LENGTH]
    head = name[: _NAME_LENGTH - _HASH_LENGTH - 1].rstrip("-")
    return f"{head}-{tail}" if head else tail
