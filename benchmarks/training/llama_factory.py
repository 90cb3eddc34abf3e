"""LLaMA-Factory as a contender, in an environment of its own: it wants other versions than ours of most libraries.

It trains by its own `run_exp`, with its own preparation of the rows and its own collator, on a base model that it is
told to load in float32. Its adapter is then loaded here, and its loss measured as everyone's.
"""

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environments import install
from benchmarks.training.outcome import BATCH, Data, Outcome, base_model, data_of, held_out_loss
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


def run(name: str, model_folder: Path, kind: str, count: int, seed: int) -> Outcome:
    """Train and measure.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    from peft import PeftModel
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    data = data_of(tokenizer, kind, count, seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        taken = _train(CONTENDERS[name], model_folder, data, folder)
        model = PeftModel.from_pretrained(base_model(model_folder), folder / "adapter")
        return Outcome(name=name, tokens=data.tokens, loss=held_out_loss(model, data.held_out), **taken)


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


def _train(changes: Mapping[str, Any], model_folder: Path, data: Data, folder: Path) -> dict[str, Any]:
    """Lay out the job, run it, and read what it took."""
    _base_in_float32(model_folder, folder / "base")
    (folder / "rows.json").write_text(json.dumps(data.chats))
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {
        "file_name": "rows.json", "formatting": "sharegpt", "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                 "system_tag": "system"},
    }}))
    job, taken = folder / "job.json", folder / "taken.json"
    job.write_text(json.dumps({
        "arguments": arguments(changes, folder, max(len(record["input_ids"]) for record in data.trained)),
        "rows": data.trained, "taken": str(taken),
    }))
    loop = Path(__file__).with_name("llama_factory_loop.py")
    # -P: the folder of the script holds modules of ours, and none is to hide one of the environment's.
    done = subprocess.run(
        [str(python()), "-P", str(loop), str(job)], capture_output=True, text=True, check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_DATASETS_CACHE": str(folder / "cache")},
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(taken.read_text())
    return found


def _base_in_float32(model_folder: Path, folder: Path) -> None:
    """The same files, with a configuration that says float32: LLaMA-Factory loads weights as it says."""
    folder.mkdir()
    for path in model_folder.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = json.loads((model_folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
