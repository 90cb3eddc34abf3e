"""On which hardware a setup fits, and what would make it fit where it does not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.estimate.gpus import GPUS, Gpu
from shared.estimate.memory import memory
from shared.estimate.setup import Setup, trainers_precision
from shared.estimate.shape import ModelShape
from shared.parallel_checks import SHARDED, SHARDED_OPTIMIZERS
from shared.recipe import SUPERVISED, Method

USABLE = 0.92
"""Of a GPU's memory. The rest is for what the caching allocator cannot use (fragments) and for kernels' workspaces."""

_GPUS = 8
"""Of the machine that is rented most where one is not enough."""


_Change = Callable[[Setup], tuple[str, Setup] | None]
"""A change, as the keys of a recipe that the trainer takes, and the setup after it; None where it changes nothing."""


@dataclass(frozen=True)
class Remedy:
    """A change of the setup, alone or on top of those before it, and the peak that it leads to."""

    change: str
    setup: Setup
    peak: int
    fits: bool


def needed(shape: ModelShape, setup: Setup) -> int:
    """Bytes that the device must have: states of a paged optimizer may leave it."""
    found = memory(shape, setup)
    return found.peak - found.pageable


def fits(shape: ModelShape, setup: Setup, capacity: int) -> bool:
    """Whether a step fits into so many bytes, with what the allocator loses."""
    return needed(shape, setup) <= capacity * USABLE


def runs_on(shape: ModelShape, setup: Setup, gpu: Gpu) -> bool:
    """Whether the setup fits on a GPU that computes in its precision."""
    return fits(shape, setup, gpu.memory) and (gpu.bfloat16 or setup.precision == "float32")


def smallest(shape: ModelShape, setup: Setup) -> Gpu | None:
    """The GPU with the least memory that the setup fits on; of equals the fastest."""
    found = [gpu for gpu in GPUS if runs_on(shape, setup, gpu)]
    return min(found, key=lambda gpu: (gpu.memory, -gpu.tflops), default=None)


def single_remedies(shape: ModelShape, setup: Setup, capacity: int) -> list[Remedy]:
    """What each change alone would do, the one that saves most first."""
    found = [_remedy(shape, change, changed, capacity) for change, changed in _changes(setup)]
    return sorted((item for item in found if item.peak < needed(shape, setup)), key=lambda item: item.peak)


def together(shape: ModelShape, setup: Setup, capacity: int) -> list[Remedy]:
    """The changes that make it fit, each on top of those before it; empty where nothing is enough.

    Those that cost least are taken first, and any that the later ones made needless is left out again.
    """
    for count in range(1, len(_LADDER) + 1):
        found = _applied(shape, setup, _LADDER[:count], capacity)
        if found and found[-1].fits:
            kept = list(_LADDER[:count])
            for step in _LADDER[: count - 1]:
                fewer = [item for item in kept if item is not step]
                without = _applied(shape, setup, fewer, capacity)
                if without and without[-1].fits:
                    kept, found = fewer, without
            return found
    return []


def _applied(shape: ModelShape, setup: Setup, steps: Sequence[_Change], capacity: int) -> list[Remedy]:
    """The changes that save anything, one after another."""
    chosen: list[Remedy] = []
    present = setup
    for step in steps:
        changed = step(present)
        if changed is None or needed(shape, changed[1]) >= needed(shape, present):
            continue
        chosen.append(_remedy(shape, *changed, capacity))
        present = changed[1]
    return chosen


def _remedy(shape: ModelShape, change: str, setup: Setup, capacity: int) -> Remedy:
    return Remedy(change, setup, needed(shape, setup), fits(shape, setup, capacity))


def _changes(setup: Setup) -> Iterator[tuple[str, Setup]]:
    for step in (*_LADDER, _sharded):
        changed = step(setup)
        if changed is not None:
            yield changed


def _with(setup: Setup, **values: Any) -> Setup:
    return Setup.model_validate({**setup.model_dump(), **values})


def _checkpointing(setup: Setup) -> tuple[str, Setup] | None:
    if setup.gradient_checkpointing or setup.method == "prefix":
        return None
    return "gradientCheckpointing: true (a third more time)", _with(setup, gradient_checkpointing=True)


def _smaller_batch(setup: Setup) -> tuple[str, Setup] | None:
    """Down to one row, with as many more batches a step, so that a step of the optimizer sees the same rows."""
    if setup.micro_batch == 1:
        return None
    batches = setup.gradient_accumulation * setup.micro_batch
    return (
        f"batchSize: 1 with gradientAccumulation: {batches} (the same rows per step)",
        _with(setup, micro_batch=1, gradient_accumulation=batches),
    )


def _half_precision(setup: Setup) -> tuple[str, Setup] | None:
    narrowest = trainers_precision(setup.method, gpu=True, held_by=setup.held_by)
    if setup.precision in ("bfloat16", narrowest):
        return None
    if narrowest == "bfloat16":
        said = "baseWeights: bfloat16 with precision: bfloat16 (what is trained stays float32)"
    else:
        said = "precision: bfloat16 (of the products; weights stay float32)"
    return said, _with(setup, precision=narrowest)


def _optimizer(setup: Setup) -> tuple[str, Setup] | None:
    # Only states of a weight's shape are cut as it is.
    if setup.optimizer != "adamw" or setup.shards > 1:
        return None
    # There is nowhere else to page to on a CPU.
    smaller = "adamw_8bit" if setup.device == "cpu" else "paged_adamw_8bit"
    return f"optimizer: {smaller}", _with(setup, optimizer=smaller)


def _lora(setup: Setup) -> tuple[str, Setup] | None:
    # A sharded model's adapters are none that the trainer shards.
    if setup.method != "full" or setup.shards > 1:
        return None
    return "method: lora instead of full", _by(setup, "lora")


def _qlora(setup: Setup) -> tuple[str, Setup] | None:
    if setup.method not in ("full", "lora", "dora") or setup.shards > 1:
        return None
    return "method: qlora (the base in 4 bits)", _by(setup, "qlora")


def _by(setup: Setup, method: Method) -> Setup:
    """By another method, in the precision that is the trainer's for it where products are in bfloat16."""
    narrow = trainers_precision(method, gpu=True, held_by=setup.held_by)
    return _with(setup, method=method, precision=setup.precision if setup.precision == "float32" else narrow)


def _shorter(setup: Setup) -> tuple[str, Setup] | None:
    if setup.sequence_length < 256:
        return None
    half = setup.sequence_length // 2
    return f"maxLength: {half} (longer rows are cut)", _with(setup, sequence_length=half)


def _much_shorter(setup: Setup) -> tuple[str, Setup] | None:
    once = _shorter(setup)
    return None if once is None else _shorter(once[1])


def _sharded(setup: Setup) -> tuple[str, Setup] | None:
    """Told as what it alone would do: more devices are no change of the recipe alone."""
    if (
        setup.shards > 1 or setup.device == "cpu" or setup.method not in SHARDED or setup.objective not in SUPERVISED
        or setup.optimizer not in SHARDED_OPTIMIZERS or setup.held_by
    ):
        return None
    return f"distributed: fsdp with resources.gpu: {_GPUS}", _with(setup, shards=_GPUS)


_LADDER: tuple[_Change, ...] = (
    _checkpointing, _smaller_batch, _half_precision, _optimizer, _lora, _qlora, _shorter, _much_shorter,
)
"""From what changes nothing about the result to what changes most."""
