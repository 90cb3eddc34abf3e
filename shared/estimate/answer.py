"""From a question to the whole estimate. Pure."""

from dataclasses import dataclass

from shared.errors import InvalidInputError
from shared.estimate.adapters import trainable_parameters
from shared.estimate.compute import Work, flops_per_token, seconds
from shared.estimate.contract import (
    EstimateAnswer,
    EstimateRequest,
    Hardware,
    HardwareView,
    MemoryView,
    RemedyView,
    TimeView,
)
from shared.estimate.fit import USABLE, Remedy, fits, needed, runs_on, single_remedies, smallest, together
from shared.estimate.gpus import GB, GPUS, gpu_named
from shared.estimate.memory import memory
from shared.estimate.setup import Setup
from shared.estimate.shape import ModelShape


@dataclass(frozen=True)
class _Device:
    """The device that was asked about; what is None nobody knows."""

    memory: int | None
    tflops: float | None
    bandwidth: float | None
    bfloat16: bool = True


def estimate(shape: ModelShape, request: EstimateRequest) -> EstimateAnswer:
    """The estimate of a request about a model of this shape.

    Raises:
        InvalidInputError: the rows do not fit the model's context, or a target module is none of the model's.
        NotFoundError: no such GPU.
    """
    setup = request.setup
    if setup.length > shape.context:
        raise InvalidInputError(f"sequences of {setup.length} tokens are longer than the model's {shape.context}")
    device, found = _device(request.hardware), memory(shape, setup)
    work = Work(**request.data.model_dump()) if request.data else None
    asked = needed(shape, setup)
    roomy = None if device.memory is None else fits(shape, setup, device.memory)
    able = device.bfloat16 or setup.precision == "float32"
    # Where nothing was asked about, help with the largest of the table.
    best = smallest(shape, setup)
    capacity = device.memory if roomy is False else max(gpu.memory for gpu in GPUS) if best is None else None
    return EstimateAnswer(
        family=shape.family, parameters=shape.parameters, trainable=trainable_parameters(shape, setup), setup=setup,
        memory=MemoryView(
            weights=found.weights, beside=found.beside, gradients=found.gradients, optimizer=found.optimizer,
            activations=found.activations, logits=found.logits, gathered=found.gathered, phases=found.phases,
            peak=found.peak,
            peak_phase=found.peak_phase, pageable=found.pageable,
        ),
        fits=roomy and able, recommended=best.name if best else None,
        remedies=_views(single_remedies(shape, setup, capacity), asked) if capacity else [],
        together=_views(together(shape, setup, capacity), asked) if capacity else [],
        hardware=_table(shape, setup, request.hardware, work), time=_time(shape, setup, request.hardware, device, work),
        notes=_notes(setup, request, device),
    )


def _device(hardware: Hardware) -> _Device:
    known = gpu_named(hardware.gpu) if hardware.gpu else None
    given = None if hardware.memory_gb is None else int(hardware.memory_gb * GB)
    bandwidth = None if hardware.bandwidth_gb is None else hardware.bandwidth_gb * GB
    return _Device(
        memory=given or (known.memory if known else None), tflops=hardware.tflops or (known.tflops if known else None),
        bandwidth=bandwidth or (known.bandwidth if known else None), bfloat16=known is None or known.bfloat16,
    )


def _views(remedies: list[Remedy], asked: int) -> list[RemedyView]:
    return [RemedyView(change=item.change, peak=item.peak, saves=asked - item.peak, fits=item.fits)
            for item in remedies]


def _table(shape: ModelShape, setup: Setup, hardware: Hardware, work: Work | None) -> list[HardwareView]:
    rows = []
    for gpu in GPUS:
        fitting = runs_on(shape, setup, gpu)
        taken = seconds(
            shape, setup, work, tflops=gpu.tflops, bandwidth=gpu.bandwidth, utilization=hardware.utilization,
            gpus=hardware.count,
        ) if work and fitting else None
        rows.append(HardwareView(
            gpu=gpu.name, memory=gpu.memory, fits=fitting, used=needed(shape, setup) / (gpu.memory * USABLE),
            bfloat16=gpu.bfloat16, seconds=taken, source=gpu.source,
        ))
    return rows


def _time(
    shape: ModelShape, setup: Setup, hardware: Hardware, device: _Device, work: Work | None
) -> TimeView | None:
    if work is None or device.tflops is None:
        return None
    taken = seconds(
        shape, setup, work, tflops=device.tflops, bandwidth=device.bandwidth or float("inf"),
        utilization=hardware.utilization, gpus=hardware.count,
    )
    hours = taken * hardware.count / 3600
    return TimeView(
        tokens=work.tokens, flops_per_token=flops_per_token(shape, setup), seconds=taken,
        tokens_per_second=work.tokens / taken, utilization=hardware.utilization, gpu_hours=hours,
        usd=None if hardware.usd_per_hour is None else hours * hardware.usd_per_hour,
    )


def _notes(setup: Setup, request: EstimateRequest, device: _Device) -> list[str]:
    notes = []
    if setup.objective == "distill" and not setup.teacher_parameters:
        notes.append("the teacher is not counted; say how many weights it has (teacher_parameters)")
    if setup.draws and not setup.reward_parameters:
        notes.append("no reward model is counted; where one gives the rewards, say how many weights it has "
                     "(reward_parameters)")
    if setup.draws and request.data:
        notes.append("the time leaves out the drawing of answers, and what a reward model and the base say to them")
    if not device.bfloat16 and setup.precision != "float32":
        notes.append(f"{request.hardware.gpu} does not compute in bfloat16: it runs precision float32 alone")
    if setup.shards > 1:
        notes.append("FSDP: what is cut and what is whole for a while is reckoned, and was not measured on GPUs; the "
                     "time leaves out what devices wait for each other's weights")
    elif request.hardware.count > 1:
        notes.append("each device holds the whole model and trains on its part of the rows")
    if request.data and request.data.fill == 1.0 and setup.padded:
        notes.append("time is for batches without padding; with padding say which share of tokens is real (fill)")
    if request.data and device.tflops is not None and "utilization" not in request.hardware.model_fields_set:
        notes.append(f"time assumes {request.hardware.utilization:.0%} of the peak; a measured share makes it exact")
    if setup.optimizer.startswith("paged"):
        notes.append("a paged optimizer's states may move to the host's memory: that is counted as free here, and slow")
    return notes
