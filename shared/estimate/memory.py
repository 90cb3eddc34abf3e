"""The peak of memory of a training step, part by part and phase by phase."""

from dataclasses import dataclass

from shared.estimate.activations import Activations, activations
from shared.estimate.adapters import trainable_parameters
from shared.estimate.beside import beside_bytes, pull_bytes
from shared.estimate.drawing import drawing_bytes
from shared.estimate.setup import Setup
from shared.estimate.shape import ModelShape

# NF4 in blocks of 64 with a float32 scale each; double quantisation keeps 8-bit scales and a float32 scale for each 256
# of them (Dettmers et al., arXiv 2305.14314, section 3).
_NF4_BYTES = 0.5
_NF4_BLOCK, _NF4_OUTER_BLOCK = 64, 256
# bitsandbytes' 8-bit states: a byte each with a float32 scale for each 256 (bitsandbytes/optim/optimizer.py).
_STATE_BLOCK = 256
_FLOAT = 4
# Where there is no kernel for 8-bit states, a CPU unpacks them tensor by tensor: so many float32 copies of the largest.
_CPU_UNPACKED = 4.5
DRAWING = "drawing answers"
"""The phase in which a model that learns from rewards answers."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: of the base and the adapter.
        beside: what the objective keeps beside them: a reference, a teacher, where weights started.
        gradients: of what is trained, at the end of the backward pass.
        optimizer: its states.
        pageable: how much of the states may move to the host's memory.
        activations: what is kept for the backward pass, and what one block needs in it.
        logits: what the loss needs at once.
        gathered: what of a sharded model is whole for a while.
        phases: the sum that is needed at once in each part of a step.
    """

    weights: int
    beside: int
    gradients: int
    optimizer: int
    pageable: int
    activations: int
    logits: int
    gathered: int
    phases: dict[str, int]

    @property
    def peak(self) -> int:
        return max(self.phases.values())

    @property
    def peak_phase(self) -> str:
        return max(self.phases, key=lambda name: self.phases[name])


def memory(shape: ModelShape, setup: Setup) -> Memory:
    """What a step needs."""
    trained = trainable_parameters(shape, setup)
    weights, beside = weight_bytes(shape, setup), beside_bytes(shape, setup)
    width = 2 if setup.method == "full" and setup.precision == "bfloat16" else _FLOAT
    gradients = trained * width // setup.shards
    states = _state_bytes(shape, setup, trained, width) // setup.shards
    acts, gathered = activations(shape, setup), _gathered_bytes(shape, setup)
    # On a CPU there is nowhere else for them to go.
    pageable = states if setup.optimizer.startswith("paged") and setup.device != "cpu" else 0
    return Memory(
        weights=weights, beside=beside, gradients=gradients, optimizer=states, pageable=pageable,
        activations=acts.kept + acts.block,
        logits=acts.loss, gathered=gathered,
        phases=_phases(
            shape, setup, acts, static=weights + beside + states, gradients=gradients, gathered=gathered
        ),
    )


def _phases(
    shape: ModelShape, setup: Setup, acts: Activations, *, static: int, gradients: int, gathered: int
) -> dict[str, int]:
    """What exists at once at each of the summits of a step; between them the sum only falls or grows evenly."""
    earlier = gradients if setup.gradient_accumulation > 1 else 0
    table = shape.embedding_parameters * _FLOAT if setup.method == "full" else 0
    pull = {"pull to the start": static + gradients + pull_bytes(shape, setup)} if setup.held_by else {}
    # A batch of ppo's draws its own answers; grpo's and rloo's are drawn before a step's first gradients.
    undone = earlier if setup.objective == "ppo" else 0
    drawing = {DRAWING: static + undone + drawing_bytes(shape, setup)} if setup.draws else {}
    return {
        **drawing,
        "loss": static + gathered + earlier + acts.kept + acts.loss + table,
        "backward through a block": static + gathered + earlier + acts.kept + acts.block + table,
        # The embedding's gradient is as large as its table, and is added to the output layer's where they are one.
        "end of the backward pass": static + gradients + (table if shape.tied or earlier else 0),
        **pull,
        "optimizer step": static + gradients + _unpacked_bytes(shape, setup),
    }


def _gathered_bytes(shape: ModelShape, setup: Setup) -> int:
    """Of a sharded model: the output layer, which stays whole through the step, and the block that is computed with the
    one that is fetched meanwhile, and their gradients until each device has its part of the sum. In the weights'
    own precision, to which autocast changes nothing (PyTorch's `fully_shard`, by transformers' plan for it).
    """
    if setup.shards == 1:
        return 0
    blocks = 4 * shape.linear_parameters // shape.layers
    return (shape.embedding_parameters + blocks) * (2 if setup.precision == "bfloat16" else _FLOAT)


def _unpacked_bytes(shape: ModelShape, setup: Setup) -> int:
    if setup.device != "cpu" or "8bit" not in setup.optimizer or setup.method != "full":
        return 0
    largest = max(shape.embedding_parameters, *(linear.weights for linear in shape.linears))
    return int(largest * _FLOAT * _CPU_UNPACKED)


def weight_bytes(shape: ModelShape, setup: Setup) -> int:
    """The base's weights and the adapter's."""
    adapter = 0 if setup.method == "full" else trainable_parameters(shape, setup) * _FLOAT
    if setup.method != "qlora":
        return shape.parameters * (2 if setup.precision == "bfloat16" else _FLOAT) // setup.shards + adapter
    scale = 1 / _NF4_BLOCK + _FLOAT / (_NF4_BLOCK * _NF4_OUTER_BLOCK) if setup.double_quantization else \
        _FLOAT / _NF4_BLOCK
    quantised = shape.linear_parameters
    # PEFT's preparation makes float32 of all that is not quantised: embeddings, output layer, norms.
    return int(quantised * (_NF4_BYTES + scale)) + (shape.parameters - quantised) * _FLOAT + adapter


def _state_bytes(shape: ModelShape, setup: Setup, trained: int, width: int) -> int:
    match setup.optimizer:
        case "adamw":
            return 2 * trained * width
        case "paged_adamw":
            return 2 * trained * _FLOAT
        case "adamw_8bit" | "paged_adamw_8bit":
            return int(2 * trained * (1 + _FLOAT / _STATE_BLOCK))
        case "adafactor":
            # A row and a column of second moments a matrix (Shazeer and Stern, arXiv 1804.04235).
            rows = sum(linear.inputs + linear.outputs for linear in shape.linears) * shape.layers
            return min(trained, rows + shape.vocabulary + shape.hidden) * _FLOAT
        case "sgd":
            return 0
