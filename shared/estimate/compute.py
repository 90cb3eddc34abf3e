"""How long a run takes: the operations of its matrix products, over what the hardware does of them in a second."""

from dataclasses import dataclass

from shared.estimate.adapters import low_rank_parameters, trainable_parameters
from shared.estimate.beside import forward_flops
from shared.estimate.memory import weight_bytes
from shared.estimate.setup import Setup
from shared.estimate.shape import ModelShape

MODEL_FLOPS_UTILIZATION = 0.35
"""Of the peak, where nothing was measured. LLM-Foundry's tables (scripts/train/benchmarking) have 0.4 to 0.6 for long
sequences on A100 and H100; fine-tuning has shorter ones and more small operations."""


@dataclass(frozen=True)
class Work:
    """What a run has to do.

    Attributes:
        rows: of training.
        tokens_per_row: the mean of real tokens.
        fill: the share of real tokens among those that are computed; 1 without padding.
    """

    rows: int
    tokens_per_row: float
    epochs: float
    fill: float = 1.0

    @property
    def tokens(self) -> float:
        """Real tokens of all epochs."""
        return self.rows * self.tokens_per_row * self.epochs


def flops_per_token(shape: ModelShape, setup: Setup) -> float:
    """Floating-point operations per token of training.

    Two for each weight that multiplies it, forwards; as many backwards for the gradient of its input, and as many
    again for the gradient of the weight where the weight is trained (Kaplan et al., arXiv 2001.08361, section 2.1).
    So 6 N for full training, 4 N and the adapter's 6 for adapters; checkpointing goes forwards once more, and so do
    references and teachers.
    """
    attention = attention_flops(shape, setup)
    blocks = 2 * (shape.active_weights - shape.embedding_parameters) + attention
    head = 2 * shape.embedding_parameters
    # Gradients of queries, keys, values and weights: attention costs twice as much backwards, whatever is trained.
    backwards = blocks + attention if setup.method != "full" else 2 * blocks
    again = blocks - _last_layers(shape, setup) if setup.gradient_checkpointing else 0.0
    # The chunked loss computes its logits once more in the backward pass.
    heads = head * ((3 if setup.method == "full" else 2) + (1 if setup.loss == "chunked" else 0))
    trained = blocks + backwards + again + heads + _adapter_flops(shape, setup)
    return trained + forward_flops(setup, own=blocks + head)


def attention_flops(shape: ModelShape, setup: Setup) -> float:
    """Forwards, per token: it attends to half of the sequence on average, for the scores and again for the values."""
    return 2 * 2 * shape.layers * shape.query_width * setup.length / 2


def _last_layers(shape: ModelShape, setup: Setup) -> float:
    """What is not computed again: nothing that autograd saved comes after the input of a block's last layer."""
    if setup.method != "full":
        return 0.0
    return 2.0 * shape.layers * sum(linear.weights for linear in shape.linears if linear.reads == "product")


def _adapter_flops(shape: ModelShape, setup: Setup) -> float:
    passes = 4 if setup.gradient_checkpointing else 3
    if setup.low_rank:
        return 2 * passes * low_rank_parameters(shape, setup)
    return 2 * passes * trainable_parameters(shape, setup) if setup.method == "adapter" else 0.0


def flops_per_step(shape: ModelShape, setup: Setup) -> float:
    """Operations that a pass costs whatever the number of its tokens: DoRA multiplies its matrices out."""
    if setup.method != "dora":
        return 0.0
    passes = 2 if setup.gradient_checkpointing else 1
    multiplied = sum(
        2 * setup.rank * linear.inputs * (linear.inputs + linear.outputs) for linear in shape.linears
    )
    return float(shape.layers * multiplied * passes)


def bytes_per_pass(shape: ModelShape, setup: Setup) -> float:
    """What a pass moves whatever the number of its tokens: 4-bit weights are read and written out for each product."""
    if setup.method != "qlora":
        return 0.0
    packed = weight_bytes(shape, setup) - (shape.parameters - shape.linear_parameters) * 4
    return (3 if setup.gradient_checkpointing else 2) * (packed + 2 * 2 * shape.linear_parameters)


def seconds(
    shape: ModelShape, setup: Setup, work: Work, *, tflops: float, bandwidth: float, utilization: float, gpus: int = 1
) -> float:
    """How long the training itself takes, without start, validation and checkpoints.

    Args:
        tflops: the hardware's peak, in 10^12 operations per second.
        bandwidth: of its memory, bytes per second.
        utilization: the share of the peak that matrix products reach.
        gpus: that share the rows.
    """
    computed = work.tokens / work.fill / gpus
    passes = computed / setup.tokens
    operations = computed * flops_per_token(shape, setup) + passes * flops_per_step(shape, setup)
    return operations / (tflops * 1e12 * utilization) + passes * bytes_per_pass(shape, setup) / bandwidth
