"""The base model as a method trains on it: in full, or with its linear layers in 4 bits."""

import os
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import prepare_model_for_kbit_training
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.distributed import DistributedConfig

from services.trainer.job.kernels import FLASH, Choice, Hardware, attention_for
from shared.recipe import TrainingRecipe
from shared.reward_models import HEAD, load_with_head


def load_model(base: Path, recipe: TrainingRecipe, *, shards: int = 1) -> Any:
    """The base model.

    In float32, or as the recipe keeps frozen weights; the trainer's autocast computes in bfloat16 where the machine
    does. A score head, which is trained beside an adapter, is in float32 on any base. For QLoRA (Dettmers et al., arXiv
    2305.14314) the linear layers are in NF4, their scales quantised too where the recipe says so; the rest in float32.

    Args:
        shards: processes over which the weights are cut by FSDP, of which this is one; all must call.
    """
    torch.manual_seed(recipe.seed)
    quantized = recipe.method == "qlora"
    options: dict[str, Any] = {"dtype": dtype_of(recipe)}
    attention = attention_here(base, recipe).value
    if attention == FLASH or recipe.attention != "auto":
        # Left out otherwise: not every model has SDPA, and transformers knows which have.
        options["attn_implementation"] = attention
    if shards > 1:
        # Accelerate's own FSDP, which cuts after each process has loaded all, would leave it away on CPUs.
        options["distributed_config"] = DistributedConfig(fsdp_size=shards)
    if quantized:
        # Quantisation happens while the weights are loaded, so they must be told where to.
        device = int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"
        options |= {"quantization_config": _four_bits(recipe), "device_map": {"": device}}
    if recipe.objective == "reward":
        model: Any = load_with_head(base, **options)
        model.get_submodule(HEAD).float()
    else:
        model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, trust_remote_code=False, **options)
    model.config.use_cache = False
    if quantized:
        # Checkpointing of activations is the trainer's to turn on, see `services.trainer.job.recipe`.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        _keep_quantized_as_trained(model)
    return model


def _keep_quantized_as_trained(model: torch.nn.Module) -> None:
    """Keep the 4-bit weights as they are when the model is only asked.

    On CPUs with AVX512-BF16 the first forward pass of a model in evaluation packs them anew for a faster kernel, with
    their scales rounded to bfloat16, and for good: training would go on with other weights after its first validation.
    And layers whose width is no multiple of the quantisation's block cannot be packed at all.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def dtype_of(recipe: TrainingRecipe) -> torch.dtype:
    """That of the base's weights in this process, where they are not in 4 bits."""
    narrow = recipe.base_weights_on(bfloat16_gpu=Hardware.here().bfloat16) == "bfloat16"
    return torch.bfloat16 if narrow else torch.float32


def attention_here(base: Path, recipe: TrainingRecipe) -> Choice:
    """The attention of a base model's training in this process."""
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    code = AutoModelForCausalLM._model_mapping.get(type(config), None)
    return attention_for(recipe, Hardware.here(), able=bool(getattr(code, "_supports_flash_attn", False)))


def _four_bits(recipe: TrainingRecipe) -> BitsAndBytesConfig:
    computes = torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=recipe.double_quantization,
        bnb_4bit_compute_dtype=computes, llm_int8_skip_modules=[HEAD] if recipe.objective == "reward" else None,
    )
