"""From a recipe's method to a model whose trainable weights are the method's own, and back to files."""

from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_utils import rotate_checkpoints

from services.trainer.job.base_weights import metadata_of
from services.trainer.job.restraint import Restrained
from services.trainer.job.shards import cut, gathered, is_sharded, like, release, whole
from services.trainer.job.validating import Validating
from shared.adapters.bottleneck import add_bottlenecks, save_bottlenecks
from shared.errors import InvalidInputError
from shared.recipe import LOW_RANK, TrainingRecipe

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


def prepare(model: Any, recipe: TrainingRecipe) -> PeftConfig | None:
    """Check the recipe against the model; PEFT's configuration of the adapter, which the trainer puts on the model.

    None where PEFT has no part in it: then the model is ready, with its trainable weights marked.

    Raises:
        InvalidInputError: the model lacks layers that the recipe names or the method needs.
    """
    match recipe.method:
        case "lora" | "dora" | "qlora":
            check_target_modules(recipe, model)
            return lora_config(recipe)
        case "ia3":
            return IA3Config(task_type=_task(recipe))
        case "prefix":
            return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=recipe.virtual_tokens)
        case "prompt":
            return PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=recipe.virtual_tokens)
        case "adapter":
            add_bottlenecks(model, recipe.bottleneck)
    return None


def _task(recipe: TrainingRecipe) -> str:
    """What PEFT calls it. For sequence classifiers it trains and saves the head, too."""
    return "SEQ_CLS" if recipe.objective == "reward" else "CAUSAL_LM"


def lora_config(recipe: TrainingRecipe) -> LoraConfig:
    """PEFT's configuration of a low-rank adapter."""
    lora = recipe.lora
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", task_type=_task(recipe),
        target_modules=lora.target_modules, use_rslora=lora.rs_lora, use_dora=recipe.method == "dora",
    )


def check_target_modules(recipe: TrainingRecipe, model: torch.nn.Module) -> None:
    """Refuse names that fit no linear layer. PEFT itself only minds when none of the names fits.

    Raises:
        InvalidInputError: naming them, and those that exist.
    """
    wanted = recipe.lora.target_modules
    if wanted == "all-linear":
        return
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    unknown = [name for name in wanted if not any(f".{path}".endswith(f".{name}") for path in linear)]
    if unknown or not wanted:
        names = ", ".join(sorted({path.rpartition(".")[2] for path in linear}))
        raise InvalidInputError(
            f"training.lora.targetModules: the model has no linear layer {', '.join(unknown) or '(an empty list)'}; "
            f"it has {names}. Or write all-linear"
        )


def trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that are trained, whole, by name, copied to the CPU."""
    release(model)
    return {
        name: whole(value.detach()).cpu().clone().contiguous()
        for name, value in model.named_parameters() if value.requires_grad
    }


@torch.no_grad()
def put_back(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give trained weights their values back.

    Raises:
        InvalidInputError: they are those of another model or method.
    """
    release(model)
    own = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if own.keys() != weights.keys():
        raise InvalidInputError(
            f"the checkpoint has other trained weights than the recipe: {sorted(own.keys() ^ weights.keys())[:3]}; "
            "was the recipe changed in the middle of the run?"
        )
    for name, value in own.items():
        value.copy_(like(weights[name], value))


class KeepsTrainable(Validating, Restrained):
    """For trainers: checkpoints hold the trained weights alone, whatever the method, and not the frozen base.

    They are whole though each process may have a shard of them, and so are the optimizer's states.
    """

    FILE = "trained.safetensors"
    optimizer: Any
    lr_scheduler: Any

    def __init__(self, *positional: Any, **named: Any) -> None:
        args = named["args"]
        # transformers stores no optimizer of a sharded model, and insists that it be told so; it is stored here.
        args.save_only_model = is_sharded(named["model"])
        super().__init__(*positional, **named)
        args.save_only_model = False

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trainable(self.model), folder / self.FILE, metadata=metadata_of(self.model))
        if not self.args.should_save:
            # transformers makes room in the first process's folder alone, and each process has one.
            rotate_checkpoints(self.args.output_dir, save_total_limit=self.args.save_total_limit, use_mtime=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        put_back(model or self.model, load_file(Path(resume_from_checkpoint) / self.FILE))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not is_sharded(self.model):
            super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
            return
        states = gathered(self.optimizer.state_dict(), keep=self.args.should_save)
        if self.args.should_save:
            torch.save(states, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not is_sharded(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            return
        states = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True, mmap=True)
        self.optimizer.load_state_dict(cut(states, self.optimizer))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))


def save_result(model: Any, recipe: TrainingRecipe, folder: Path, *, base: Path, name: str, tokenizer: Any) -> None:
    """Write what was trained: an adapter's two files, or the whole model with its tokenizer.

    Args:
        base: folder of the base model; `name` is what it is called, which files say instead of a local path.
    """
    if recipe.method == "full":
        _save_whole(model, tokenizer, folder)
    elif recipe.merge:
        adapter = folder.with_name(f"{folder.name}-adapter")
        _save_adapter(model, adapter, name)
        # Into the base as it is stored: a 4-bit layer would round the update away.
        plain = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        _save_whole(PeftModel.from_pretrained(plain, str(adapter)).merge_and_unload(), tokenizer, folder)
    elif recipe.method == "adapter":
        save_bottlenecks(model, folder, base_model=name)
    else:
        _save_adapter(model, folder, name)


def _save_whole(model: Any, tokenizer: Any, folder: Path) -> None:
    model.config.use_cache = True
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _save_adapter(model: Any, folder: Path, name: str) -> None:
    """The two files and nothing else. The base is named, not the local path it was loaded from."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = name
    # PEFT keeps sets, whose order differs from process to process: the same adapter must be the same artifact.
    for field in ("target_modules", "feedforward_modules"):
        value = getattr(config, field, None)
        if value is not None and not isinstance(value, str):
            setattr(config, field, sorted(value))
    # Embeddings are not trained; left to find that out, PEFT would ask the model hub about the base's name.
    # DPO and KTO keep a copy of an adapter that they started from beside it.
    model.save_pretrained(
        folder, safe_serialization=True, save_embedding_layers=False, selected_adapters=["default"]
    )
    for file in folder.iterdir():
        if file.name not in ADAPTER_FILES:
            file.unlink()


def facts(recipe: TrainingRecipe) -> dict[str, Any]:
    """What an artifact's manifest says of its method, for those that may serve it."""
    low_rank = {"rank": recipe.lora.rank, "target_modules": recipe.lora.target_modules}
    return {
        "method": recipe.method,
        "objective": recipe.objective,
        "merged": recipe.merge,
        "servers": list(recipe.servers),
        **(low_rank if recipe.method in LOW_RANK else {}),
    }
