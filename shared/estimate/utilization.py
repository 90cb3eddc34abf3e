"""How much of a device's peak a run reached: model FLOPs utilization (PaLM, arXiv 2204.02311, appendix B)."""

from collections.abc import Sequence

from shared.estimate.setup import Setup
from shared.estimate.shape import ModelShape


def model_flops_per_token(shape: ModelShape, setup: Setup, context: float) -> float:
    """Operations that a token's training takes by the model's own mathematics: ``6 N + 12 L H Q T`` for full training.

    N weights multiply a token, in L layers with H heads of Q numbers each attend to T tokens. Two operations for each
    weight forwards and four backwards, of which two are for the weight's own gradient; adapters spare those of the
    frozen base, so theirs are 4 N. What is computed twice for gradient checkpointing does not count: it is no progress.

    Args:
        context: T, the tokens of a row.
    """
    passes = 6 if setup.method == "full" else 4
    return passes * shape.active_weights + 12 * shape.layers * shape.query_width * context


def mean_context(lengths: Sequence[int]) -> float:
    """Tokens of the row that a token is in, in the mean over tokens; 0 where there are none."""
    total = sum(lengths)
    return sum(length * length for length in lengths) / total if total else 0.0


def model_flops_utilization(
    shape: ModelShape, setup: Setup, *, tokens_per_second: float, context: float, tflops: float, devices: int = 1
) -> float:
    """The share of the peak, from 0 to 1.

    Args:
        tokens_per_second: real tokens of all devices together, without padding.
        tflops: the peak of one device, in 10^12 operations per second, in the precision that is trained in.
    """
    return tokens_per_second * model_flops_per_token(shape, setup, context) / (tflops * 1e12 * devices)
