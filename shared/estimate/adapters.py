"""How many weights each method trains."""

from shared.errors import InvalidInputError
from shared.estimate.setup import Setup
from shared.estimate.shape import Linear, ModelShape

# What IA3 rescales: keys, values and the inner activations of the feed-forward layer (Liu et al., arXiv 2205.05638).
# PEFT's own choice by family (peft/utils/constants.py) has queries for keys in some, and nothing for the rest.
_IA3_OUTPUTS = {
    **dict.fromkeys(("llama", "mistral"), ("k_proj", "v_proj")),
    **dict.fromkeys(("qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"), ("q_proj", "v_proj")),
}
_IA3_INPUTS = ("down_proj",)


def targets(shape: ModelShape, setup: Setup) -> tuple[Linear, ...]:
    """The linear layers of one block that a method adapts.

    Raises:
        InvalidInputError: a name is none of the model's, or the method has no place in this family.
    """
    if setup.method == "ia3":
        if shape.family not in _IA3_OUTPUTS:
            raise InvalidInputError(
                f"ia3: PEFT does not say what to rescale in {shape.family}, only in {', '.join(_IA3_OUTPUTS)}"
            )
        rescaled = _IA3_OUTPUTS[shape.family] + _IA3_INPUTS
        return tuple(linear for linear in shape.linears if linear.name in rescaled)
    if not setup.low_rank:
        return ()
    if setup.target_modules == "all-linear":
        return shape.linears
    names = [linear.name for linear in shape.linears]
    unknown = [name for name in setup.target_modules if name not in names]
    if unknown or not setup.target_modules:
        raise InvalidInputError(
            f"target_modules: the model has no linear layer {', '.join(unknown) or '(an empty list)'}; it has "
            f"{', '.join(names)}. Or say all-linear"
        )
    return tuple(linear for linear in shape.linears if linear.name in setup.target_modules)


def trainable_parameters(shape: ModelShape, setup: Setup) -> int:
    """How many weights get gradients."""
    match setup.method:
        case "full":
            return shape.parameters
        case "prompt":
            # Embeddings before the first block (Lester et al., arXiv 2104.08691).
            return setup.virtual_tokens * shape.hidden
        case _:
            return shape.layers * _trained_in_block(shape, setup)


def low_rank_parameters(shape: ModelShape, setup: Setup) -> int:
    """r (d + k) for each adapted d x k layer (Hu et al., arXiv 2106.09685)."""
    return shape.layers * _low_rank_in_block(shape, setup)


def _trained_in_block(shape: ModelShape, setup: Setup) -> int:
    adapted = targets(shape, setup)
    match setup.method:
        case "ia3":
            return sum(linear.inputs if linear.name in _IA3_INPUTS else linear.outputs for linear in adapted)
        case "prefix":
            # Keys and values (Li and Liang, arXiv 2101.00190), of the key-value heads alone.
            return setup.virtual_tokens * 2 * shape.kv_width
        case "adapter":
            # After attention and after the feed-forward layer (Houlsby et al., arXiv 1902.00751).
            return 2 * (2 * shape.hidden * setup.bottleneck + setup.bottleneck + shape.hidden)
        case "dora":
            # A magnitude for each output on top (Liu et al., arXiv 2402.09353).
            return _low_rank_in_block(shape, setup) + sum(linear.outputs for linear in adapted)
        case _:
            return _low_rank_in_block(shape, setup)


def _low_rank_in_block(shape: ModelShape, setup: Setup) -> int:
    return sum(setup.rank * (linear.inputs + linear.outputs) for linear in targets(shape, setup))
