"""Gradual unfreezing (Howard and Ruder, arXiv 1801.06146, section 3.3): which trained weights wait at a step."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from shared.forgetting import GradualUnfreezing

# model.layers.7.mlp..., transformer.h.7..., and bottleneck.model/layers/7/...
_LAYER = re.compile(r"(?:^|[./])(?:layers|h|blocks)[./](\d+)[./]")


def stages(names: Sequence[str], layers_per_stage: int) -> list[list[str]]:
    """The trained weights by the stage at which they join, the first stage first.

    Layers join from the top. What a model has above its layers (the last norm, the head) is in the first stage; what
    it has below (embeddings, a head that shares them too) in one of its own after all layers.

    Args:
        names: of the trained weights, in the model's order, which is the order of computation.
    """
    found = [_LAYER.search(name) for name in names]
    layers = [int(match.group(1)) if match else None for match in found]
    present = sorted({layer for layer in layers if layer is not None}, reverse=True)
    if not present:
        return [list(names)]
    stage_of = {layer: index // layers_per_stage for index, layer in enumerate(present)}
    first = next(index for index, layer in enumerate(layers) if layer is not None)
    below = max(stage_of.values()) + 1
    result: list[list[str]] = [[] for _ in range(below + 1)]
    for index, (name, layer) in enumerate(zip(names, layers, strict=True)):
        result[stage_of[layer] if layer is not None else below if index < first else 0].append(name)
    return [stage for stage in result if stage]


class Schedule:
    """Which weights wait, by the step alone: a resumed run needs to know nothing else."""

    def __init__(self, model: torch.nn.Module, rule: GradualUnfreezing) -> None:
        self._weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._stages = stages(list(self._weights), rule.layers_per_stage)
        self._steps = rule.steps_per_stage

    def waiting(self, step: int) -> list[torch.nn.Parameter]:
        """The weights that take no part in a step, counted from 0."""
        return [self._weights[name] for stage in self._stages[step // self._steps + 1 :] for name in stage]

    def trained_share(self, steps: int) -> float:
        """Which share of all the trained weights joined before the end of a run of so many steps."""
        waited = sum(value.numel() for value in self.waiting(max(steps - 1, 0)))
        return 1 - waited / sum(value.numel() for value in self._weights.values())


@contextmanager
def frozen(weights: Sequence[torch.nn.Parameter], *, skip_backward: bool) -> Iterator[None]:
    """Those weights get no gradient in the block, so that the optimizer passes them over: no moments, no decay.

    Args:
        skip_backward: do not compute their gradients either. Processes that train together must: they wait for each
            other's gradient of every weight.
    """
    for value in weights:
        value.requires_grad_(not skip_backward)
    try:
        yield
    finally:
        for value in weights:
            value.requires_grad_(True)
            value.grad = None
