"""Shapes of models that many people adapt, copied from the ``config.json`` that each is published with.

Only keys that the shape follows from. The number of parameters that each one's card states is in the tests.
"""

from typing import Any

from shared.errors import NotFoundError
from shared.estimate.shape import ModelShape, shape_of


def known_shape(name: str) -> ModelShape:
    """The shape of a model by its name in `KNOWN`, in any case, with or without its owner, and with dashes for its
    dots, which the names of base models in pipelines cannot have.

    Raises:
        NotFoundError: it is not one of them.
    """
    if not is_known(name):
        raise NotFoundError(
            f"{name} is not one of the models whose shape is built in ({', '.join(KNOWN)}); give the path of its "
            "config.json, or the name of a base model in the store"
        )
    return shape_of(KNOWN[_key(name)])


def is_known(name: str) -> bool:
    """Whether `known_shape` knows a name."""
    return _key(name) in KNOWN


def _key(name: str) -> str:
    key = name.rpartition("/")[2].lower().replace(".", "-")
    for ending in _TUNED:
        key = key if key in _DASHED else key.removesuffix(ending)
    return _DASHED.get(key, key)


def _config(  # noqa: PLR0917 - the columns of the table below
    family: str, hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocabulary: int,
    context: int, *, tied: bool = False, **more: Any,
) -> dict[str, Any]:
    return {
        "model_type": family, "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocabulary,
        "max_position_embeddings": context, "tie_word_embeddings": tied, **more,
    }


KNOWN: dict[str, dict[str, Any]] = {
    "tiny": _config("llama", 160, 480, 2, 2, 1, 1536, 512, tied=True),
    "smollm2-135m": _config("llama", 576, 1536, 30, 9, 3, 49152, 8192, tied=True),
    "smollm2-360m": _config("llama", 960, 2560, 32, 15, 5, 49152, 8192, tied=True),
    "smollm2-1.7b": _config("llama", 2048, 8192, 24, 32, 32, 49152, 8192, tied=True),
    "llama-2-7b": _config("llama", 4096, 11008, 32, 32, 32, 32000, 4096),
    "llama-2-13b": _config("llama", 5120, 13824, 40, 40, 40, 32000, 4096),
    "llama-3.2-1b": _config("llama", 2048, 8192, 16, 32, 8, 128256, 131072, tied=True, head_dim=64),
    "llama-3.2-3b": _config("llama", 3072, 8192, 28, 24, 8, 128256, 131072, tied=True, head_dim=128),
    "llama-3.1-8b": _config("llama", 4096, 14336, 32, 32, 8, 128256, 131072),
    "llama-3.1-70b": _config("llama", 8192, 28672, 80, 64, 8, 128256, 131072),
    "qwen2.5-0.5b": _config("qwen2", 896, 4864, 24, 14, 2, 151936, 32768, tied=True),
    "qwen2.5-1.5b": _config("qwen2", 1536, 8960, 28, 12, 2, 151936, 32768, tied=True),
    "qwen2.5-3b": _config("qwen2", 2048, 11008, 36, 16, 2, 151936, 32768, tied=True),
    "qwen2.5-7b": _config("qwen2", 3584, 18944, 28, 28, 4, 152064, 32768),
    "qwen2.5-14b": _config("qwen2", 5120, 13824, 48, 40, 8, 152064, 32768),
    "qwen2.5-32b": _config("qwen2", 5120, 27648, 64, 40, 8, 152064, 32768),
    "qwen2.5-72b": _config("qwen2", 8192, 29568, 80, 64, 8, 152064, 32768),
    "qwen3-0.6b": _config("qwen3", 1024, 3072, 28, 16, 8, 151936, 40960, tied=True),
    "qwen3-1.7b": _config("qwen3", 2048, 6144, 28, 16, 8, 151936, 40960, tied=True),
    "qwen3-4b": _config("qwen3", 2560, 9728, 36, 32, 8, 151936, 40960, tied=True),
    "qwen3-8b": _config("qwen3", 4096, 12288, 36, 32, 8, 151936, 40960),
    "qwen3-14b": _config("qwen3", 5120, 17408, 40, 40, 8, 151936, 40960),
    "qwen3-32b": _config("qwen3", 5120, 25600, 64, 64, 8, 151936, 40960),
    "mistral-7b-v0.3": _config("mistral", 4096, 14336, 32, 32, 8, 32768, 32768),
    "gemma-2-2b": _config("gemma2", 2304, 9216, 26, 8, 4, 256000, 8192, tied=True, head_dim=256),
    "gemma-2-9b": _config("gemma2", 3584, 14336, 42, 16, 8, 256000, 8192, tied=True, head_dim=256),
    "gemma-2-27b": _config("gemma2", 4608, 36864, 46, 32, 16, 256000, 8192, tied=True, head_dim=128),
    "gemma-3-1b": _config("gemma3_text", 1152, 6912, 26, 4, 1, 262144, 32768, tied=True, head_dim=256),
    "phi-3.5-mini": _config("phi3", 3072, 8192, 32, 32, 32, 32064, 131072),
    "phi-4": _config("phi3", 5120, 17920, 40, 40, 10, 100352, 16384),
}

_DASHED = {known.replace(".", "-"): known for known in KNOWN}
_TUNED = ("-instruct", "-it", "-base", "-chat")
"""Endings of names whose shape is that of the model without."""
