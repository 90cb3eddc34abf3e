"""What the estimator is asked and what it answers, over HTTP and on the command line."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.estimate.compute import MODEL_FLOPS_UTILIZATION
from shared.estimate.setup import Setup


class Hardware(BaseModel):
    """What the run is to happen on: a GPU of the table, or any device by its own figures.

    Attributes:
        tflops: the peak in 10^12 operations per second; without it, and without a GPU, no time is estimated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str | None = Field(default=None, description="a name of the GPU table")
    count: int = Field(
        default=1, ge=1, le=1024,
        description="devices that share the rows; each holds the whole model, or by setup.shards a part",
    )
    memory_gb: float | None = Field(default=None, gt=0, description="of each device, in 10^9 bytes")
    tflops: float | None = Field(default=None, gt=0, description="peak of each device")
    bandwidth_gb: float | None = Field(default=None, gt=0, description="of each device's memory, 10^9 bytes per second")
    utilization: float = Field(
        default=MODEL_FLOPS_UTILIZATION, gt=0, le=1, description="the share of the peak that the run reaches"
    )
    usd_per_hour: float | None = Field(default=None, ge=0, description="of each device; without it no cost is told")


class Rows(BaseModel):
    """What is trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(ge=1, description="of the train split")
    tokens_per_row: float = Field(gt=0, description="the mean, prompt and answer")
    epochs: float = Field(default=1.0, gt=0, description="passes over the rows")
    fill: float = Field(default=1.0, gt=0, le=1, description="real tokens among those computed; below 1 with padding")


class EstimateRequest(BaseModel):
    """A question. Give `model` (a known model or one of the store) or `config` (the content of its config.json)."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    config: dict[str, Any] | None = None
    setup: Setup = Field(default_factory=Setup)
    hardware: Hardware = Field(default_factory=Hardware)
    data: Rows | None = None


class MemoryView(BaseModel):
    """Bytes on one device. The parts have their summits at different moments: their sum may exceed the peak."""

    weights: int
    beside: int = Field(
        description="what the objective keeps beside: a reference, a teacher, a reward model, where weights started"
    )
    gradients: int
    optimizer: int
    activations: int
    logits: int
    gathered: int = Field(default=0, description="by FSDP: what of a sharded model is whole for a while")
    phases: dict[str, int] = Field(description="what exists at once in each part of a step")
    peak: int = Field(description="the highest of the phases")
    peak_phase: str
    pageable: int = Field(description="of the peak, what a paged optimizer may move to the host")


class RemedyView(BaseModel):
    """A change and what it leads to; `saves` is against the setup that was asked about."""

    change: str
    peak: int
    saves: int
    fits: bool


class HardwareView(BaseModel):
    """A GPU and whether the setup fits on it; `seconds` is None where no rows were told, or where it does not fit."""

    gpu: str
    memory: int
    fits: bool
    used: float = Field(description="the needed share of the usable memory")
    bfloat16: bool = Field(default=True, description="whether it computes in bfloat16; else only float32 runs on it")
    seconds: float | None = None
    source: str = ""


class TimeView(BaseModel):
    """The training itself, without start, validation and checkpoints."""

    tokens: float
    flops_per_token: float
    seconds: float
    tokens_per_second: float
    utilization: float
    gpu_hours: float
    usd: float | None = None


class EstimateAnswer(BaseModel):
    """The estimate.

    Attributes:
        fits: on the hardware that was asked about; None where none was.
        remedies: where it does not fit, what each change alone does.
        together: the shortest list of changes after which it fits, each on top of those before it; empty where none.
        recommended: the smallest GPU of the table that it fits on; None where there is none.
    """

    family: str
    parameters: int
    trainable: int
    setup: Setup
    memory: MemoryView
    fits: bool | None = None
    remedies: list[RemedyView] = Field(default_factory=list)
    together: list[RemedyView] = Field(default_factory=list)
    recommended: str | None = None
    hardware: list[HardwareView] = Field(default_factory=list)
    time: TimeView | None = None
    notes: list[str] = Field(default_factory=list)
