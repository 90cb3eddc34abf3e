"""Shapes against the models that transformers and PEFT make of the same config, without any weight in memory."""

import json
import warnings
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from shared.base_models import tiny
from shared.estimate import Setup, known_shape, shape_of
from shared.estimate.adapters import trainable_parameters

pytestmark = pytest.mark.integration

BASE = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True}, "mistral": {"tie_word_embeddings": True},
    "smollm3": {"pad_token_id": 0}, "qwen2": {}, "qwen3": {}, "gemma": {}, "gemma2": {}, "gemma3_text": {},
    "phi3": {"pad_token_id": 0},
}


@pytest.mark.parametrize("family", VARIANTS)
def test_a_family_has_the_weights_that_transformers_makes(family: str) -> None:
    # Qwen2 and Phi-3 know no head_dim of their own.
    base = {key: value for key, value in BASE.items() if family not in ("qwen2", "phi3") or key != "head_dim"}
    config = AutoConfig.for_model(family, **base, **VARIANTS[family])
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(config)
    shape = shape_of({"model_type": family, **config.to_dict()})
    assert shape.parameters == model.num_parameters()
    linear = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    assert {item.name for item in shape.linears} == linear - {"lm_head"}
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(value.numel() for value in adapted.parameters() if value.requires_grad)
    assert trainable_parameters(shape, Setup(method="lora", rank=4)) == trained


def test_the_tiny_model_is_the_one_that_is_built() -> None:
    built = tiny._model(_Ids()).config.to_dict()
    assert shape_of(json.loads(json.dumps(built, default=str))) == known_shape("tiny")


class _Ids:
    bos_token_id, eos_token_id, pad_token_id = 1, 2, 0
