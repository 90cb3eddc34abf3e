"""Prefix and prompt tuning as keys and values that stand in the cache before a row's first token.

Both learn virtual tokens, and attention is causal: what these leave in the cache does not depend on the row. So it is
computed once, and any row of any batch may start from it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import DynamicCache

from shared.errors import InvalidInputError

KINDS = frozenset({"PREFIX_TUNING", "PROMPT_TUNING"})


@dataclass(frozen=True)
class VirtualTokens:
    """What `count` virtual tokens leave in the cache: keys and values by layer, each (heads, count, head size)."""

    count: int
    layers: list[tuple[torch.Tensor, torch.Tensor]]


@torch.inference_mode()
def load_virtual_tokens(folder: Path, model: Any) -> VirtualTokens:
    """The virtual tokens of an adapter's folder.

    Args:
        model: the base, a causal language model without other adapters active.

    Raises:
        InvalidInputError: they do not fit this base model.
    """
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    learned = load_file(folder / "adapter_model.safetensors").get("prompt_embeddings")
    if learned is None or learned.dim() != 2:
        raise InvalidInputError(f"{folder.name} holds no matrix prompt_embeddings")
    if config["peft_type"] == "PROMPT_TUNING":
        return _from_embeddings(learned, model, folder)
    return _from_prefix(learned, model, folder)


def _from_embeddings(learned: torch.Tensor, model: Any, folder: Path) -> VirtualTokens:
    weight = model.get_input_embeddings().weight
    if learned.shape[1] != weight.shape[1]:
        raise InvalidInputError(
            f"{folder.name} has embeddings of {learned.shape[1]} numbers, the base model of {weight.shape[1]}"
        )
    cache = DynamicCache(config=model.config)
    count = learned.shape[0]
    model(inputs_embeds=learned.to(weight.dtype).unsqueeze(0), position_ids=torch.arange(count).unsqueeze(0),
          cache=cache, use_cache=True, logits_to_keep=1)
    return VirtualTokens(count, [(layer.keys[0], layer.values[0]) for layer in cache.layers])


def _from_prefix(learned: torch.Tensor, model: Any, folder: Path) -> VirtualTokens:
    config = model.config
    heads = config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    expected = 2 * config.num_hidden_layers * heads * size
    if learned.shape[1] != expected:
        raise InvalidInputError(
            f"{folder.name} has {learned.shape[1]} numbers for a virtual token, the base model needs {expected}"
        )
    count, dtype = learned.shape[0], model.get_input_embeddings().weight.dtype
    # (count, layer and key or value, heads, size) to (layer, key or value), (heads, count, size).
    parts = learned.to(dtype).view(count, config.num_hidden_layers, 2, heads, size).permute(1, 2, 3, 0, 4)
    return VirtualTokens(count, [(layer[0].contiguous(), layer[1].contiguous()) for layer in parts])


def seed(cache: DynamicCache, rows: Sequence[VirtualTokens | None], like: torch.Tensor) -> torch.Tensor:
    """Let each row of an empty cache begin with its virtual tokens, aligned at the right.

    Args:
        like: a tensor of the model's dtype, for rows that have none.

    Returns:
        The mask of what is in the cache then, (rows, longest); 0 hides padding. No columns where no row has any.
    """
    longest = max((row.count for row in rows if row is not None), default=0)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    if longest == 0:
        return mask
    some = next(row for row in rows if row is not None)
    for index, (key, _) in enumerate(some.layers):
        empty = torch.zeros((key.shape[0], longest, key.shape[2]), dtype=like.dtype)
        keys, values = empty.repeat(len(rows), 1, 1, 1), empty.repeat(len(rows), 1, 1, 1)
        for place, row in enumerate(rows):
            if row is not None:
                keys[place, :, longest - row.count :], values[place, :, longest - row.count :] = row.layers[index]
        cache.update(keys, values, index)
    for place, row in enumerate(rows):
        if row is not None:
            mask[place, longest - row.count :] = 1
    return mask


class WithVirtualTokens:
    """A causal language model whose every row begins with the same virtual tokens; called as the model itself is.

    Args:
        model: the base, which must be called with `attention_mask`, `position_ids` and `cache`.
    """

    def __init__(self, model: Any, tokens: VirtualTokens) -> None:
        self._model, self._tokens = model, tokens
        self.config = model.config

    def __call__(
        self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None, cache: DynamicCache | None = None, **kwargs: Any,
    ) -> Any:
        rows, count = len(input_ids), self._tokens.count
        cache = DynamicCache(config=self.config) if cache is None else cache
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0) if position_ids is None else position_ids
        if cache.get_seq_length() == 0:
            seed(cache, [self._tokens] * rows, self._tokens.layers[0][0])
        return self._model(
            input_ids=input_ids, attention_mask=torch.cat([mask.new_ones((rows, count)), mask], dim=1),
            position_ids=positions + count, cache=cache, **{**kwargs, "use_cache": True},
        )
