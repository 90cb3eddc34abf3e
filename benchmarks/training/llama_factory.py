"""LLaMA-Factory as a contender: it trains by its own `run_exp`."""

import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environments import install
from benchmarks.training.outcome import BATCH
from benchmarks.training.peers import Peer
from shared.recipe import TrainingRecipe

# The newest that it takes, and what else it imports to train; the rest that it asks for serves pages, images and sound,
# and might bring another torch.
PACKAGES = (
    "transformers==5.6.0", "trl==0.24.0", "peft==0.18.1", "accelerate==1.11.0", "datasets==4.0.0", "omegaconf==2.4.0",
    "sentencepiece==0.2.3", "einops==0.8.2",
)
LLAMA_FACTORY = ("--no-deps", "llamafactory==0.9.5")

NO_CHECKPOINTING: Mapping[str, Any] = {"disable_gradient_checkpointing": True}
CONTENDERS: dict[str, Mapping[str, Any]] = {
    "LLaMA-Factory": {},
    "LLaMA-Factory, no checkpointing": NO_CHECKPOINTING,
    "LLaMA-Factory neat_packing": {**NO_CHECKPOINTING, "packing": True, "neat_packing": True},
}


def python() -> Path:
    """The interpreter of LLaMA-Factory's environment, which is made where there is none. It has this one's torch.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    return install("llama-factory", [f"torch=={version('torch')}", *PACKAGES], LLAMA_FACTORY) / "python"


def lay_out(chats: list[dict[str, Any]], folder: Path) -> None:
    """Rows and their description, as LLaMA-Factory reads them."""
    (folder / "rows.json").write_text(json.dumps(chats))
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {
        "file_name": "rows.json", "formatting": "sharegpt", "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                 "system_tag": "system"},
    }}))


def arguments(changes: Mapping[str, Any], folder: Path, longest: int) -> dict[str, Any]:
    """LLaMA-Factory's own defaults but for `changes` and what all contenders share.

    Args:
        longest: tokens of the longest row: no row is cut, and packed sequences are as long as TRL's are.
    """
    recipe = TrainingRecipe()
    return {
        "stage": "sft", "do_train": True, "model_name_or_path": str(folder / "base"),
        "dataset": "rows", "dataset_dir": str(folder), "template": "chatml_to_the_end",
        # Packing takes one off. Packed positions are not padded to the multiple of 8 that tokens are padded to.
        "cutoff_len": math.ceil((longest + 1) / 8) * 8,
        "finetuning_type": "lora", "lora_target": "all", "lora_rank": recipe.lora.rank,
        "lora_alpha": recipe.lora.alpha, "lora_dropout": recipe.lora.dropout,
        "num_train_epochs": 1, "per_device_train_batch_size": BATCH, "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine", "optim": "adamw_torch_fused", "seed": recipe.seed, "data_seed": recipe.seed,
        "use_cpu": True, "bf16": False, "fp16": False, "dataloader_pin_memory": False,
        "output_dir": str(folder / "adapter"), "report_to": "none", "disable_tqdm": True, "save_strategy": "no",
        "logging_steps": 1, **changes,
    }


PEER = Peer(
    name="LLaMA-Factory", contenders=CONTENDERS, python=python, lay_out=lay_out, arguments=arguments,
    loop="llama_factory_loop.py",
)
