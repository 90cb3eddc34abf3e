"""In what precision a model is asked and its weights are kept: a frozen base may be in bfloat16, and its adapter never.

What is compared or measured is asked in float32 all the same, which takes no second model in memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

NARROW = torch.bfloat16
Weight = torch.nn.Parameter


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """The model computes in float32 inside the block, without gradients.

    Weights in bfloat16 are widened module by module, for as long as each is at work, which changes none of them: each
    is a number of float32, too. The few that are trained are wide all the time, as PEFT looks at those of a layer
    before they are at work. Autocast is off, also where Accelerate has put it around the model's forward pass.
    """
    trained = _narrow(weight for weight in model.parameters() if weight.requires_grad)
    kept = _widen(trained)
    around = model.__dict__.pop("forward") if _is_wrapped(model) else None
    hooks = [hook for module in model.modules() for hook in _widened(module)]
    try:
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        _put_back(trained, kept)
        if around is not None:
            model.forward = around


def _is_wrapped(model: Any) -> bool:
    """Whether the model's own forward pass is inside another function. PEFT may have put the base's in its place."""
    function = model.__dict__.get("forward")
    while function is not None:
        function = getattr(function, "__func__", function)
        if function is type(model).forward:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _widened(module: torch.nn.Module) -> list[Any]:
    """Hooks by which a module has wide weights of its own while it computes; none where it has no narrow ones."""
    narrow = _narrow(module.parameters(recurse=False))
    if not narrow:
        return []
    kept: list[torch.Tensor] = []

    def before(*_: object) -> None:
        kept.extend(_widen(narrow))

    def after(*_: object) -> None:
        _put_back(narrow, kept)
        kept.clear()

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after, always_call=True)]


def _narrow(weights: Iterable[Weight]) -> list[Weight]:
    return [weight for weight in weights if weight.dtype == NARROW]


def _widen(weights: Sequence[Weight]) -> list[torch.Tensor]:
    """What they were."""
    kept = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.float()
    return kept


def _put_back(weights: Sequence[Weight], kept: Sequence[torch.Tensor]) -> None:
    for weight, data in zip(weights, kept, strict=True):
        weight.data = data


def train_in_float32(model: torch.nn.Module) -> None:
    """Keep the trained weights in float32.

    TRL turns those of an adapter on a quantised model to bfloat16, whose eight bits lose updates smaller than a
    256th of a weight: with small learning rates most of them.
    """
    for weight in model.parameters():
        if weight.requires_grad and weight.dtype != torch.float32:
            weight.data = weight.data.float()


@torch.no_grad()
def measure_magnitudes(model: torch.nn.Module) -> None:
    """Give a new DoRA on a narrow base the lengths of its rows in float32.

    PEFT measures them while its matrices are as narrow as the base, so that they are rounded, and the adapter would
    change the base before its first step.
    """
    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    for layer in layers:
        weight = layer.get_base_layer().weight
        for name, vector in layer.lora_magnitude_vector.items() if weight.dtype == NARROW else ():
            update = layer.lora_B[name].weight @ layer.lora_A[name].weight
            vector.weight.copy_(vector.get_weight_norm(weight.float(), update, layer.scaling[name]))
