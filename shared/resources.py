"""What a job asks for: cores, memory, GPUs, a class of nodes."""

from typing import Any

from pydantic import Field, model_validator

from shared.spec_part import Slug, SpecPart

_BYTES = {"M": 10**6, "G": 10**9, "Mi": 2**20, "Gi": 2**30}


class Resources(SpecPart):
    """What a job asks for.

    Kubernetes gives it that and no more. On one machine only `cpu` has an effect, as the number of threads: the job
    may use all the memory there is, and any GPU.
    """

    cpu: float | None = Field(default=None, gt=0, le=1024, description="cores; TUNELOOP_JOB_CPU if absent")
    memory: str | None = Field(
        default=None, pattern=r"^[1-9][0-9]{0,8}(Mi|Gi|M|G)$", examples=["24Gi"],
        description="a job that needs more is killed; TUNELOOP_JOB_MEMORY if absent",
    )
    gpu: int = Field(
        default=0, ge=0, le=1,
        description="GPUs; none, so that a job starts anywhere",
    )
    hardware: Slug | None = Field(
        default=None, description="a class of nodes from TUNELOOP_JOB_HARDWARE; its `default` if absent"
    )

    def request(self) -> dict[str, Any]:
        """The same as a `JobSpec` says it; memory in bytes."""
        memory = None
        if self.memory is not None:
            number = self.memory.rstrip("MGi")
            memory = int(number) * _BYTES[self.memory.removeprefix(number)]
        return {"cpu": self.cpu, "memory": memory, "gpu": self.gpu, "hardware": self.hardware}


class TrainingResources(Resources):
    """What a training job asks for, on each node.

    Kubernetes gives it that and no more. On one machine only `cpu` has an effect, as the number of threads: the job
    may use all the memory there is, and any GPU. With more than one GPU each trains on its part of the rows, and a
    step of the optimizer has `batchSize` rows on each of them.
    """

    gpu: int = Field(
        default=0, ge=0, le=16,
        description="GPUs; with more than one, torchrun starts a process for each; none, so that a job starts "
        "anywhere",
    )
    nodes: int = Field(
        default=1, ge=1, le=64,
        description="machines that train together; more than one needs GPUs, and one is enough for adapters",
    )

    @model_validator(mode="after")
    def _gpus_on_nodes(self) -> "TrainingResources":
        if self.nodes > 1 and self.gpu == 0:
            raise ValueError("nodes above 1 are for training on GPUs: set gpu as well")
        return self

    def request(self) -> dict[str, Any]:
        """The same as a `JobSpec` says it; memory in bytes."""
        return {**super().request(), "nodes": self.nodes}
