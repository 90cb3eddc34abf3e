"""Adapters as functions on the base's own layers, so that rows with different adapters share one batch.

PEFT computes mixed batches for plain LoRA only. Here a hook on each adapted layer changes the output of those rows that
ask for the adapter; all others pass through untouched.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file

from shared.adapters.bottleneck import PEFT_TYPE, load_bottlenecks
from shared.errors import InvalidInputError

LayerAdapter: TypeAlias = Callable[[torch.nn.Linear, torch.Tensor, torch.Tensor], torch.Tensor]
"""From a layer, its input (rows, tokens, in) and its output (rows, tokens, out) to the adapted output."""

_PREFIX = "base_model.model."


def load_layer_adapters(folder: Path) -> dict[str, LayerAdapter]:
    """The adapter of a folder by the path of each layer that it adapts: IA3, DoRA or bottleneck.

    Raises:
        InvalidInputError: it is of another kind.
    """
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    kind = config.get("peft_type")
    if kind == PEFT_TYPE:
        return {path: _bottleneck(layer) for path, layer in load_bottlenecks(folder).items()}
    tensors = load_file(folder / "adapter_model.safetensors")
    if kind == "IA3":
        return _ia3(tensors)
    if kind == "LORA" and config.get("use_dora"):
        return _dora(tensors, config)
    raise InvalidInputError(f"{folder.name} is of the kind {kind!r}, which is no adapter of single layers")


def _bottleneck(layer: torch.nn.Module) -> LayerAdapter:
    return lambda _base, _x, out: layer(out)


def _ia3(tensors: Mapping[str, torch.Tensor]) -> dict[str, LayerAdapter]:
    """Liu et al., arXiv 2205.05638: keys, values and inner activations of the MLP, each times a learned vector."""
    return {
        name.removeprefix(_PREFIX).removesuffix(".ia3_l"): _scaled_input(vector) if vector.shape[0] == 1
        else _scaled_output(vector)
        for name, vector in tensors.items()
    }


def _scaled_output(vector: torch.Tensor) -> LayerAdapter:
    return lambda _base, _x, out: out * vector.flatten().to(out.dtype)


def _scaled_input(vector: torch.Tensor) -> LayerAdapter:
    return lambda base, x, _out: torch.nn.functional.linear(x * vector.flatten().to(x.dtype), base.weight, base.bias)


def _dora(tensors: Mapping[str, torch.Tensor], config: Mapping[str, object]) -> dict[str, LayerAdapter]:
    """Liu et al., arXiv 2402.09353: ``m * (W + BA) / |W + BA|``, the norm that of each row of the matrix."""
    rank, alpha = int(str(config["r"])), float(str(config["lora_alpha"]))
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    paths = {name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")}
    bare = sorted(path for path in paths if f"{path}.lora_magnitude_vector" not in tensors)
    if bare:
        raise InvalidInputError(f"use_dora is on, and {bare[0]} has no lora_magnitude_vector: it is no DoRA adapter")
    return {
        path.removeprefix(_PREFIX): _dora_layer(
            tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] * scaling,
            tensors[f"{path}.lora_magnitude_vector"],
        )
        for path in paths
    }


def _dora_layer(down: torch.Tensor, up: torch.Tensor, magnitude: torch.Tensor) -> LayerAdapter:
    def adapted(base: torch.nn.Linear, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        linear = torch.nn.functional.linear
        weight = base.weight + (up @ down).to(base.weight.dtype)
        scale = (magnitude / weight.float().norm(dim=1)).to(out.dtype)
        plain = out if base.bias is None else out - base.bias
        changed: torch.Tensor = scale * (plain + linear(linear(x, down.to(x.dtype)), up.to(x.dtype)))
        return changed if base.bias is None else changed + base.bias

    return adapted


class LayerHooks:
    """Layer adapters on a model, each in effect for those rows of a batch that ask for it by its key.

    Args:
        rows: from the number of rows of the present call to the key of each; None for the base.
    """

    def __init__(self, model: torch.nn.Module, rows: Callable[[int], Sequence[str | None]]) -> None:
        self._model, self._rows = model, rows
        self._adapters: dict[str, dict[str, LayerAdapter]] = {}
        self._hooks: dict[str, Any] = {}

    def add(self, key: str, adapters: dict[str, LayerAdapter]) -> None:
        """Put an adapter on the model.

        Raises:
            InvalidInputError: the model lacks a layer that it adapts.
        """
        layers = self._layers()
        missing = sorted(adapters.keys() - layers.keys())
        if missing:
            raise InvalidInputError(f"the base model has no linear layer {', '.join(missing[:3])}")
        self._adapters[key] = adapters
        for path in adapters.keys() - self._hooks.keys():
            self._hooks[path] = layers[path].register_forward_hook(self._hook(path))

    def remove(self, key: str) -> None:
        """Forget an adapter, and the hooks that no other one needs."""
        del self._adapters[key]
        for path in [path for path in self._hooks if not any(path in own for own in self._adapters.values())]:
            self._hooks.pop(path).remove()

    def __contains__(self, key: str) -> bool:
        return key in self._adapters

    def _layers(self) -> dict[str, torch.nn.Linear]:
        """By path in the base, whatever PEFT has wrapped around them."""
        return {
            path.replace(".base_layer", ""): module for path, module in self._model.named_modules()
            if isinstance(module, torch.nn.Linear) and ".lora_" not in path
        }

    def _hook(self, path: str) -> Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
        def changed(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            keys = self._rows(len(output))
            for key in {key for key in keys if key is not None and path in self._adapters.get(key, {})}:
                chosen = [index for index, each in enumerate(keys) if each == key]
                output = output.clone()
                output[chosen] = self._adapters[key][path](layer, inputs[0][chosen], output[chosen])
            return output

        return changed
