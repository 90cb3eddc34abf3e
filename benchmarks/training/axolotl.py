"""axolotl as a contender: it trains by its own ``axolotl train``."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environments import install
from benchmarks.training.outcome import BATCH
from benchmarks.training.peers import Peer
from shared.recipe import TrainingRecipe

# What it pins, and what else it imports to train; the rest that it asks for serves clouds, pages and other models.
PACKAGES = (
    "transformers==5.16.1", "trl==1.9.0", "peft==0.20.0", "accelerate==1.13.0", "datasets==4.8.4", "kernels==0.16.2",
    "huggingface_hub==1.17.0", "pydantic==2.12.5", "mistral-common==1.11.5", "sentencepiece==0.2.3", "numba==0.68.1",
    "bitsandbytes==0.50.2", "torchao==0.17.0", "liger-kernel==0.8.1", "triton==3.9.0", "nvidia-ml-py==12.560.30",
    "evaluate==0.4.1", "wandb==0.31.0", "posthog==6.7.11", "addict==2.4.0", "colorama==0.4.6", "fastcore==2.2.41",
    "fire==0.7.1", "python-dotenv==1.0.1", "zstandard==0.22.0",
)
AXOLOTL = ("--no-deps", "axolotl==0.19.0", "axolotl-contribs-lgpl==0.0.7", "axolotl-contribs-mit==0.0.6")

# ChatML whose answers end with their end token: the base models' own also has a line feed after it.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)
CONTENDERS: dict[str, Mapping[str, Any]] = {
    "axolotl": {},
    # Rows that share sequences see each other but with one of its named attentions. Of those, this one runs on CPUs.
    "axolotl sample_packing": {"sample_packing": True, "attn_implementation": "sdpa", "pad_to_sequence_len": False},
}


def python() -> Path:
    """The interpreter of axolotl's environment, which is made where there is none. It has this one's torch.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    return install("axolotl", [f"torch=={version('torch')}", *PACKAGES], AXOLOTL) / "python"


def lay_out(chats: list[dict[str, Any]], folder: Path) -> None:
    """Rows as axolotl reads them."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))


def arguments(changes: Mapping[str, Any], folder: Path, longest: int) -> dict[str, Any]:
    """axolotl's own defaults but for `changes`, what all contenders share, and its kernels, which need a GPU.

    Args:
        longest: tokens of the longest row: no row is left out, and packed sequences are as long as TRL's are.
    """
    recipe = TrainingRecipe()
    return {
        "base_model": str(folder / "base"), "bf16": False, "fp16": False, "tf32": False,
        "datasets": [{
            "path": str(folder / "rows.jsonl"), "ds_type": "json", "type": "chat_template",
            "field_messages": "messages", "roles_to_train": ["assistant"], "train_on_eos": "turn",
        }],
        "chat_template": "jinja", "chat_template_jinja": CHATML, "val_set_size": 0,
        "dataset_prepared_path": str(folder / "prepared"), "dataset_num_proc": 1,
        "dataloader_num_workers": 0, "dataloader_pin_memory": False,
        "sequence_len": longest,
        "adapter": "lora", "lora_target_linear": True, "lora_r": recipe.lora.rank, "lora_alpha": recipe.lora.alpha,
        "lora_dropout": recipe.lora.dropout,
        "lora_mlp_kernel": False, "lora_qkv_kernel": False, "lora_o_kernel": False, "lora_embedding_kernel": False,
        "num_epochs": 1, "micro_batch_size": BATCH, "gradient_accumulation_steps": 1,
        "learning_rate": recipe.learning_rate, "lr_scheduler": "cosine", "warmup_steps": 0,
        "optimizer": "adamw_torch_fused", "seed": recipe.seed,
        "output_dir": str(folder / "adapter"), "save_strategy": "no", "logging_steps": 1, **changes,
    }


PEER = Peer(
    name="axolotl", contenders=CONTENDERS, python=python, lay_out=lay_out, arguments=arguments,
    loop="axolotl_loop.py", environment={"AXOLOTL_DO_NOT_TRACK": "1"},
)
