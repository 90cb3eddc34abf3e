"""A base in 4 bits stays what it is, whatever the processor could do with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit

from services.trainer.job.model import load_model
from shared.recipe import TrainingRecipe


def _packed(model: Any) -> dict[str, torch.Tensor]:
    return {name: module.weight.data.clone() for name, module in model.named_modules()
            if isinstance(module, Linear4bit)}


def test_asking_a_quantized_base_does_not_change_it(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a CPU with AVX512-BF16, whether or not this is one.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    model = load_model(tiny_model, TrainingRecipe(method="qlora"))
    before = _packed(model)
    assert before, "the base is in 4 bits"
    ids = torch.arange(8)[None]
    model.eval()
    with torch.no_grad():
        first, second = model(input_ids=ids).logits, model(input_ids=ids).logits
    assert torch.equal(first, second)
    after = _packed(model)
    assert all(torch.equal(after[name], weights) for name, weights in before.items())
