"""Estimated peaks against measured ones: the trainer's libraries, every allocation counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.estimate import Setup, memory, shape_of
from shared.estimate.adapters import trainable_parameters
from shared.estimate.memory import DRAWING
from tests.support.training_peaks import measure

pytestmark = pytest.mark.integration

TOLERANCE = 0.2
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "vocab_size": 1536, "hidden_size": 160, "intermediate_size": 480, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 40, "tie_word_embeddings": True,
    "max_position_embeddings": 512,
}
QWEN = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
# Wide, and trained on few tokens: weights and states are what takes the memory.
WIDE = {"hidden_size": 320, "intermediate_size": 960, "num_hidden_layers": 6, "head_dim": 80, "vocab_size": 6144}
TEACHER = shape_of(CONFIG).parameters
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({"method": "lora"}, {}),
    "lora with checkpointing": ({"method": "lora", "gradient_checkpointing": True, "loss": "full"}, {}),
    "dora": ({"method": "dora", "loss": "full"}, {}),
    "ia3": ({"method": "ia3", "loss": "full"}, QWEN),
    "prefix": ({"method": "prefix", "loss": "full"}, {}),
    "adapter": ({"method": "adapter", "loss": "full"}, {}),
    "full in qwen3": ({"method": "full", "loss": "full", "gradient_accumulation": 2}, QWEN),
    "full with few tokens": ({"method": "full", "micro_batch": 2, "sequence_length": 16, "loss": "full"}, WIDE),
    "qlora": ({"method": "qlora", "loss": "full", "sequence_length": 32}, {}),
    "dpo in full, with the base once more": (
        {"method": "full", "objective": "dpo", "micro_batch": 1, "sequence_length": 24}, WIDE
    ),
    "dpo's two answers a row": ({"method": "lora", "objective": "dpo", "micro_batch": 4}, {}),
    "kto": ({"method": "lora", "objective": "kto"}, {}),
    "distillation": ({"method": "lora", "objective": "distill", "teacher_parameters": TEACHER}, {}),
    "grpo, which draws a step's answers together": (
        {"method": "lora", "objective": "grpo", "micro_batch": 2, "gradient_accumulation": 4, "answer_tokens": 4}, {}
    ),
    "ppo in full, with a reward model": (
        {"method": "full", "objective": "ppo", "answer_tokens": 8, "reward_parameters": TEACHER}, {}
    ),
    "held by ewc": (
        {"method": "full", "held_by": "ewc", "micro_batch": 2, "sequence_length": 16, "loss": "full"}, WIDE
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_peak_is_within_twenty_percent(name: str, tmp_path: Path) -> None:
    values, shape = CASES[name]
    config = {**CONFIG, **shape}
    (tmp_path / "config.json").write_text(json.dumps(config))
    setup = Setup.model_validate({
        "precision": "float32", "gradient_checkpointing": False, "sequence_length": 96, "micro_batch": 8,
        "device": "cpu", **values,
    })
    measured, estimated = measure(tmp_path, setup), memory(shape_of(config), setup)
    assert measured.trained == trainable_parameters(shape_of(config), setup)
    assert estimated.peak == pytest.approx(measured.bytes, rel=TOLERANCE)
    assert estimated.phases.get(DRAWING, 0) == pytest.approx(measured.drawing, rel=TOLERANCE)
