"""What one pass keeps for the backward pass, in bytes: the tensors that autograd saves, counted one by one.

The counts follow the modules of transformers (RMSNorm, rotary attention by scaled_dot_product_attention, gated
feed-forward) and of PEFT's layers, and are held against measured peaks in ``benchmarks/estimate``. Korthikanti et al.
(arXiv 2205.05198) count the same way for GPT's layers.
"""

from dataclasses import dataclass

from shared.estimate.adapters import targets
from shared.estimate.beside import divergence_bytes
from shared.estimate.setup import Setup
from shared.estimate.shape import Linear, ModelShape

_FLOAT = 4
# TRL's chunked loss: words and tokens in one tile of logits (trl/kernels/chunked_logprob.py, trl/trainer/utils.py).
TILE_WORDS = 32_768
TILE_TOKENS = 4_096
# Without Triton the tile is folded by ordinary operations, which hold this many float32 copies of it at once.
_CPU_TILES = 7


@dataclass(frozen=True)
class Activations:
    """Bytes on one device.

    Attributes:
        kept: what the forward pass leaves for the backward pass.
        block: what one block adds while it is gone through backwards: recomputed activations and gradients of its
            inner tensors.
        loss: what the loss needs at once beyond that.
    """

    kept: int
    block: int
    loss: int


def activations(shape: ModelShape, setup: Setup) -> Activations:
    """What a pass of `setup.tokens` tokens keeps and needs."""
    saved, stream = block_bytes(shape, setup), setup.stream_bytes
    work = 3 * shape.intermediate * setup.inner_bytes + 2 * shape.hidden * _FLOAT
    copies = _weight_copies(shape, setup)
    ends = _norm_bytes(shape.hidden, setup) + shape.hidden * stream
    if setup.gradient_checkpointing:
        kept = shape.layers * shape.hidden * stream
        copied = copies if setup.method == "full" else 0
        return Activations(
            kept=setup.tokens * (kept + ends) + copied, block=setup.tokens * (saved + work) + copies // shape.layers,
            loss=_loss_bytes(shape, setup),
        )
    return Activations(
        kept=setup.tokens * (shape.layers * saved + ends) + copies, block=setup.tokens * work,
        loss=_loss_bytes(shape, setup),
    )


def block_bytes(shape: ModelShape, setup: Setup) -> int:
    """What autograd saves in one block, in bytes per token."""
    norms = shape.norms * _norm_bytes(shape.hidden, setup)
    if shape.head_norms:
        norms += _norm_bytes(shape.query_width, setup) + _norm_bytes(shape.kv_width, setup)
    return norms + _attention_bytes(shape, setup) + _mlp_saved(shape, setup) + _inputs_bytes(shape, setup) + \
        _adapter_bytes(shape, setup)


def _norm_bytes(width: int, setup: Setup) -> int:
    """RMSNorm saves its input and its scale in float32, and where its weight is trained the normed input."""
    return _FLOAT * (width + 1) + (width * setup.stream_bytes if setup.method == "full" else 0)


def _attention_bytes(shape: ModelShape, setup: Setup) -> int:
    """Queries, keys, values, output, and the logarithm of the normaliser of each head and token."""
    # With a mask, keys and values are repeated for each query head first.
    kv_width = shape.query_width if setup.padded or setup.method == "prefix" else shape.kv_width
    longer = (setup.length + setup.virtual_tokens) / setup.length if setup.method == "prefix" else 1.0
    saved = setup.compute_bytes * (2 * shape.query_width + int(2 * kv_width * longer)) + _FLOAT * shape.heads
    if shape.family == "gemma2":
        # Its capped scores have no fused kernel: cap, softmax (in float32) and its copy exist for all pairs.
        saved += shape.heads * setup.length * 2 * _FLOAT
    return saved


def _mlp_saved(shape: ModelShape, setup: Setup) -> int:
    """The gate before and after its activation, and what it is multiplied with."""
    return 3 * shape.intermediate * setup.inner_bytes


def _inputs_bytes(shape: ModelShape, setup: Setup) -> int:
    """The inputs of layers whose weights, or whose adapters' weights, are trained."""
    trained = shape.linears if setup.method == "full" else targets(shape, setup) if setup.low_rank else ()
    if setup.precision == "float32" or (setup.method == "full" and setup.precision == "bfloat16"):
        shared = {linear.reads: linear.inputs * setup.compute_bytes for linear in trained}
        shared.pop("context", None)  # it is attention's own output
        if not setup.dropout:
            return sum(shared.values())
        return sum(linear.inputs * (setup.compute_bytes + _mask_bytes(setup)) for linear in trained)
    if setup.method == "full":
        return sum(_copied(linear) for linear in trained)
    return sum(linear.inputs * (setup.compute_bytes + _mask_bytes(setup)) for linear in trained)


def _mask_bytes(setup: Setup) -> int:
    """Dropout's mask: a Boolean for each number on a GPU, a number of the adapter's kind on a CPU."""
    if not setup.dropout:
        return 0
    return 1 if setup.device == "cuda" else _FLOAT


def _copied(linear: Linear) -> int:
    """Autocast copies a float32 input for each layer that reads it; attention's and the gate's outputs are copies."""
    return {"context": 0, "product": linear.inputs * 2}.get(linear.reads, linear.inputs * 2)


def _adapter_bytes(shape: ModelShape, setup: Setup) -> int:
    """What the adapters' own operations save."""
    adapted, width = targets(shape, setup), setup.compute_bytes
    if setup.method == "ia3":
        outputs = sum(linear.outputs for linear in adapted if linear.reads != "product")
        inputs = sum(linear.inputs for linear in adapted if linear.reads == "product")
        return width * outputs + _FLOAT * inputs
    if setup.method == "adapter":
        return 2 * (shape.hidden + setup.bottleneck) * width
    saved = len(adapted) * setup.rank * width
    if setup.method == "dora":
        # The base's output and the adapter's, both of which the magnitude multiplies.
        saved += sum(2 * linear.outputs * width for linear in adapted)
    return saved


def _weight_copies(shape: ModelShape, setup: Setup) -> int:
    """Autocast's bfloat16 copies of float32 weights, which live as long as the tensors that they gave."""
    if setup.precision != "mixed" or setup.method == "qlora":
        return 0
    return 2 * shape.linear_parameters


def _loss_bytes(shape: ModelShape, setup: Setup) -> int:
    """From the last hidden state to its gradient."""
    gradient = setup.tokens * shape.hidden * _FLOAT
    if setup.objective == "reward":
        return gradient  # a score for each sequence, and no logits
    if setup.objective == "distill":
        return divergence_bytes(shape, setup) + gradient
    if setup.objective == "ppo":
        # Of the answers and of the token before each: logits, those that the temperature divided, and log_softmax's.
        return setup.sequences * (setup.answer + 1) * shape.vocabulary * 3 * _FLOAT + gradient
    if setup.loss == "full":
        # log_softmax's output, its gradient, and the gradient that comes from the labels, all in float32.
        return setup.tokens * shape.vocabulary * 3 * _FLOAT + gradient
    # Where there is Triton, TRL projects the tokens that are learned from alone; of a row's, only drawn ones are known.
    learned = setup.answer if setup.draws and setup.device == "cuda" else setup.length - 1
    tokens = min(setup.sequences * learned, TILE_TOKENS)
    words = min(shape.vocabulary, TILE_WORDS)
    tile = tokens * TILE_WORDS * setup.compute_bytes
    folded = _CPU_TILES * tokens * words * _FLOAT if setup.device == "cpu" else 0
    kept_wider = setup.precision == "mixed" or (setup.method == "qlora" and setup.precision == "bfloat16")
    weights = words * shape.hidden * 2 if kept_wider else 0
    return tile + folded + weights + gradient
