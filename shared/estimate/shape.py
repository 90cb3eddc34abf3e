"""A decoder's shape, from the ``config.json`` that Hugging Face folders carry: what its weights and work follow from.

Counts are exact: for every published model in `shared.estimate.known` they give the number of parameters that its
card states. Dense decoders of the `_FAMILIES` are supported; mixtures of experts are not, because what PEFT keeps for
an adapted expert is not a sum over tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidInputError


@dataclass(frozen=True)
class Linear:
    """A linear layer of every block.

    Attributes:
        name: the module's own name, which `targetModules` of a recipe uses.
        reads: what it reads; layers that read the same share one saved input: ``attention``, ``context``, ``mlp`` or
            ``product``.
    """

    name: str
    inputs: int
    outputs: int
    reads: str
    bias: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        return self.weights + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class ModelShape:
    """What memory and time follow from.

    Attributes:
        linears: the linear layers of one block.
        norms: normalisation layers of the model's width in one block.
        head_norms: weights of the normalisation of queries and keys in one block.
        tied: whether the output layer is the embedding.
        context: the longest sequence, in tokens.
    """

    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    context: int
    linears: tuple[Linear, ...]
    norms: int = 2
    head_norms: int = 0

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def linear_parameters(self) -> int:
        """Of all linear layers inside the blocks: what NF4 quantises."""
        return self.layers * sum(linear.parameters for linear in self.linears)

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding alone."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All of them."""
        norms = self.layers * (self.norms * self.hidden + self.head_norms) + self.hidden
        tables = self.embedding_parameters * (1 if self.tied else 2)
        return self.linear_parameters + norms + tables

    @property
    def active_weights(self) -> int:
        """Weights that multiply a token: those of the blocks' linear layers and of the output layer."""
        return self.layers * sum(linear.weights for linear in self.linears) + self.embedding_parameters


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape that a ``config.json`` describes.

    Raises:
        InvalidInputError: a key is missing or no number, or the family is none that we know.
    """
    family = str(config.get("model_type", ""))
    if family not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise InvalidInputError(
            f"config.json: model_type {family!r} is not one that can be estimated; it can be {known}"
        )
    return _FAMILIES[family](config, family)


def _number(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInputError(f"config.json: {key} must be a positive whole number, and is {value!r}")
    return value


def _common(config: Mapping[str, Any], family: str, *, tied: bool = False) -> dict[str, Any]:
    hidden, heads = _number(config, "hidden_size"), _number(config, "num_attention_heads")
    return {
        "family": family, "layers": _number(config, "num_hidden_layers"), "hidden": hidden,
        "intermediate": _number(config, "intermediate_size"), "heads": heads,
        "kv_heads": _number(config, "num_key_value_heads", heads),
        "head_dim": _number(config, "head_dim", hidden // heads), "vocabulary": _number(config, "vocab_size"),
        "tied": bool(config.get("tie_word_embeddings", tied)), "context": _number(config, "max_position_embeddings"),
    }


def _attention(common: Mapping[str, Any], *, bias: bool, out_bias: bool) -> tuple[Linear, ...]:
    hidden, width = common["hidden"], common["heads"] * common["head_dim"]
    kv_width = common["kv_heads"] * common["head_dim"]
    return (
        Linear("q_proj", hidden, width, "attention", bias), Linear("k_proj", hidden, kv_width, "attention", bias),
        Linear("v_proj", hidden, kv_width, "attention", bias), Linear("o_proj", width, hidden, "context", out_bias),
    )


def _gated(common: Mapping[str, Any], *, bias: bool = False) -> tuple[Linear, ...]:
    hidden, inner = common["hidden"], common["intermediate"]
    return (
        Linear("gate_proj", hidden, inner, "mlp", bias), Linear("up_proj", hidden, inner, "mlp", bias),
        Linear("down_proj", inner, hidden, "product", bias),
    )


def _llama(config: Mapping[str, Any], family: str) -> ModelShape:
    common = _common(config, family)
    bias = bool(config.get("attention_bias", False))
    mlp = _gated(common, bias=bool(config.get("mlp_bias", False)))
    return ModelShape(**common, linears=_attention(common, bias=bias, out_bias=bias) + mlp)


def _qwen2(config: Mapping[str, Any], family: str) -> ModelShape:
    common = _common(config, family)
    return ModelShape(**common, linears=_attention(common, bias=True, out_bias=False) + _gated(common))


def _qwen3(config: Mapping[str, Any], family: str) -> ModelShape:
    # head_dim is 128 in transformers' own default, whatever the width.
    common = _common({"head_dim": 128, **config}, family)
    bias = bool(config.get("attention_bias", False))
    linears = _attention(common, bias=bias, out_bias=bias) + _gated(common)
    return ModelShape(**common, linears=linears, head_norms=2 * common["head_dim"])


def _gemma(config: Mapping[str, Any], family: str) -> ModelShape:
    common = _common({"head_dim": 256, **config}, family, tied=True)
    linears = _attention(common, bias=False, out_bias=False) + _gated(common)
    head_norms = 2 * common["head_dim"] if family == "gemma3_text" else 0
    return ModelShape(**common, linears=linears, norms=2 if family == "gemma" else 4, head_norms=head_norms)


def _phi3(config: Mapping[str, Any], family: str) -> ModelShape:
    common = _common(config, family)
    hidden, inner, width = common["hidden"], common["intermediate"], common["heads"] * common["head_dim"]
    fused = width + 2 * common["kv_heads"] * common["head_dim"]
    return ModelShape(**common, linears=(
        Linear("qkv_proj", hidden, fused, "attention"), Linear("o_proj", width, hidden, "context"),
        Linear("gate_up_proj", hidden, 2 * inner, "mlp"), Linear("down_proj", inner, hidden, "product"),
    ))


_FAMILIES = {
    "llama": _llama, "mistral": _llama, "smollm3": _llama, "qwen2": _qwen2, "qwen3": _qwen3, "gemma": _gemma,
    "gemma2": _gemma, "gemma3_text": _gemma, "phi3": _phi3,
}
