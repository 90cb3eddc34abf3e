"""Bottleneck adapters (Houlsby et al., arXiv 1902.00751): ``h + up(relu(down(h)))`` after attention and after the MLP.

PEFT has none, and the `adapters` library wants an older transformers. They sit on the last projection of each block,
so that the block's output is adapted before it is added to the residual. Kept in PEFT's two files, with a `peft_type`
of our own.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from shared.errors import InvalidInputError

PEFT_TYPE = "BOTTLENECK"
PLACES = ("o_proj", "down_proj")
_MODULE = "bottleneck"


class Bottleneck(torch.nn.Module):
    """One adapter: (..., width) to (..., width); the identity at first, as its second matrix is zero.

    Args:
        width: of the block's output; `inner` is the bottleneck's.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down = torch.nn.Linear(width, inner)
        self.up = torch.nn.Linear(inner, width)
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        adapted: torch.Tensor = hidden + self.up(torch.relu(self.down(hidden)))
        return adapted


def places_in(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The layers that get an adapter, by path.

    Raises:
        InvalidInputError: the model's blocks end in layers of other names.
    """
    found = {
        path: module for path, module in model.named_modules()
        if path.rpartition(".")[2] in PLACES and isinstance(module, torch.nn.Linear)
    }
    if not found:
        raise InvalidInputError(
            f"training.method: adapter needs blocks that end in {' and '.join(PLACES)}, as in Llama, Qwen and Mistral; "
            "this model has none. Train with lora"
        )
    return found


def add_bottlenecks(model: torch.nn.Module, inner: int) -> torch.nn.ModuleDict:
    """Put trainable adapters on a model, and freeze all else."""
    model.requires_grad_(False)
    adapters = torch.nn.ModuleDict()
    for path, layer in places_in(model).items():
        adapter = Bottleneck(layer.out_features, inner)
        layer.register_forward_hook(lambda _layer, _inputs, output, adapter=adapter: adapter(output))
        adapters[path.replace(".", "/")] = adapter
    model.add_module(_MODULE, adapters)
    return adapters


def bottlenecks_of(model: torch.nn.Module) -> torch.nn.ModuleDict:
    """The adapters that `add_bottlenecks` put on a model, by path with ``/`` for dots."""
    adapters = model.get_submodule(_MODULE)
    assert isinstance(adapters, torch.nn.ModuleDict)  # noqa: S101 - what add_bottlenecks made
    return adapters


def save_bottlenecks(model: torch.nn.Module, folder: Path, *, base_model: str) -> None:
    """Write a model's adapters as an adapter's two files."""
    adapters = bottlenecks_of(model)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name.replace("/", "."): value.detach().cpu().contiguous()
               for name, value in adapters.state_dict().items()}
    inner = next(value.shape[0] for name, value in tensors.items() if name.endswith("down.weight"))
    config = {"peft_type": PEFT_TYPE, "task_type": "CAUSAL_LM", "bottleneck": int(inner), "activation": "relu",
              "base_model_name_or_path": base_model}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_bottlenecks(folder: Path) -> dict[str, Bottleneck]:
    """A saved adapter's layers by the path of the layer that they sit on.

    Raises:
        InvalidInputError: a layer's tensors are incomplete, or do not fit each other.
    """
    tensors = load_file(folder / "adapter_model.safetensors")
    grouped: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        path, _, part = name.rpartition(".")
        place, _, matrix = path.rpartition(".")
        grouped.setdefault(place, {})[f"{matrix}.{part}"] = value
    layers = {}
    for place, state in grouped.items():
        down = state.get("down.weight")
        if down is None or down.dim() != 2:
            raise InvalidInputError(f"{folder.name}: {place} has no matrix down.weight")
        layer = Bottleneck(down.shape[1], down.shape[0])
        try:
            layer.load_state_dict(state)
        except RuntimeError as error:
            raise InvalidInputError(f"{folder.name}: {place} is no bottleneck adapter: {error}") from error
        layers[place] = layer.eval().requires_grad_(False)
    return layers
