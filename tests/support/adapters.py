"""LoRA adapters for tests: small, random, real."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 32, "lora_dropout": 0.0, "bias": "none",
    "target_modules": ["q_proj", "v_proj"], "use_dora": False, "modules_to_save": None, "inference_mode": True,
    "base_model_name_or_path": "tiny",
}


def write_adapter(
    folder: Path, model: Path, *, seed: int = 0, strength: float = 0.5, config: Mapping[str, Any] | None = None
) -> Path:
    """An adapter for the Llama in `model` that changes what it says; as PEFT saves it.

    Args:
        strength: standard deviation of the second matrix; 0 changes nothing.
        config: fields of adapter_config.json that differ from `CONFIG`.
    """
    folder.mkdir(parents=True)
    written = {**CONFIG, **(config or {})}
    shape = json.loads((model / "config.json").read_text())
    head = shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"]
    heads = {"q_proj": shape["num_attention_heads"], "v_proj": shape["num_key_value_heads"]}
    draw = np.random.default_rng(seed)
    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for module, count in heads.items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{stem}.lora_A.weight"] = draw.normal(0, 0.5, (written["r"], shape["hidden_size"]))
            tensors[f"{stem}.lora_B.weight"] = draw.normal(0, strength, (count * head, written["r"]))
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return folder


def write_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of zeros."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(at))
