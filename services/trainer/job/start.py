"""Going on from an adapter that was trained before."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from services.trainer.job.methods import facts
from shared.adapters.bottleneck import load_bottlenecks
from shared.errors import InvalidInputError
from shared.recipe import LOW_RANK, TrainingRecipe
from shared.s3 import Manifest

REFERENCE = "ref"
"""What TRL calls the adapter that holds where training started."""

# What the adapter's own configuration must agree in, by PEFT's name for it and the recipe's key.
_CONFIG = {"lora_alpha": "lora.alpha", "use_rslora": "lora.rsLora", "num_virtual_tokens": "virtualTokens",
           "bottleneck": "bottleneck"}
_META = {"method": "method", "rank": "lora.rank", "target_modules": "lora.targetModules"}


def go_on(model: Any, config: PeftConfig | None, folder: Path) -> Any:
    """The model with the adapter of `folder` on it, trainable.

    Args:
        model: the base, as `services.trainer.job.methods.prepare` left it, and `config` what that returned.

    Raises:
        InvalidInputError: the adapter has other weights than the recipe's.
    """
    if config is None:
        _fill_bottlenecks(model, folder)
        return model
    model = get_peft_model(model, config)
    stored = load_file(folder / "adapter_model.safetensors")
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    shapes = {name: value.shape for name, value in stored.items()}
    if shapes != {name: value.shape for name, value in own.items()}:
        raise InvalidInputError(f"training.startFrom: the adapter has other weights than the recipe's: "
                                f"{sorted(shapes.keys() ^ own.keys())[:3] or 'of other sizes'}; train a new adapter: "
                                "remove training.startFrom")
    set_peft_model_state_dict(model, stored)
    return model


@torch.no_grad()
def copy_reference(model: Any) -> None:
    """Make the frozen reference, where a model has one, what its trained adapter is now.

    TRL copies them by names that hold ``.default.``, which those of IA3 do not: it would compare with the base.
    """
    weights = dict(model.named_parameters())
    for name, value in weights.items():
        parts = name.split(".")
        if REFERENCE in parts:
            value.copy_(weights[".".join("default" if part == REFERENCE else part for part in parts)])


def check_start(recipe: TrainingRecipe, folder: Path, manifest: Manifest, base_digest: str) -> None:
    """Whether a recipe can go on from the adapter of `folder`.

    Raises:
        InvalidInputError: it is for another base, or of another shape than the recipe says.
    """
    meta = manifest.meta
    if "method" not in meta or not (folder / "adapter_config.json").is_file():
        raise InvalidInputError(f"training.startFrom: {manifest.digest} is no adapter that this trainer made")
    if meta.get("base_model_digest") != base_digest:
        raise InvalidInputError(
            f"{_named(manifest)} was trained on another base model ({meta.get('base_model')} "
            f"{meta.get('base_model_digest')}, and not {base_digest}); train a new adapter: remove training.startFrom"
        )
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    wants = _configured(recipe)
    differ = {key: (meta[name], value) for name, key in _META.items()
              if name in meta and (value := _plain(facts(recipe).get(name))) != _plain(meta[name])}
    differ |= {key: (config[name], wants[name]) for name, key in _CONFIG.items()
               if name in config and name in wants and config[name] != wants[name]}
    if differ:
        words = "; ".join(f"training.{key} is {ours}, and that of the adapter {theirs}"
                          for key, (theirs, ours) in differ.items())
        raise InvalidInputError(f"{_named(manifest)}: {words}. Write what the adapter has, or train a new one: remove "
                                "training.startFrom")


def _configured(recipe: TrainingRecipe) -> dict[str, Any]:
    """What a recipe's adapter has under PEFT's names."""
    if recipe.method in LOW_RANK:
        return {"lora_alpha": recipe.lora.alpha, "use_rslora": recipe.lora.rs_lora}
    return {"num_virtual_tokens": recipe.virtual_tokens, "bottleneck": recipe.bottleneck}


def _plain(value: Any) -> Any:
    """As it can be compared: the order of names does not matter, and qlora's adapter is one of lora."""
    return "lora" if value == "qlora" else sorted(value) if isinstance(value, list) else value


def _named(manifest: Manifest) -> str:
    return f"training.startFrom: the adapter {manifest.digest}"


@torch.no_grad()
def _fill_bottlenecks(model: Any, folder: Path) -> None:
    own = model.get_submodule("bottleneck")
    stored = load_bottlenecks(folder)
    if stored.keys() != {path.replace("/", ".") for path in own}:
        raise InvalidInputError("training.startFrom: the adapter sits on other layers than this base model has")
    for path, layer in stored.items():
        own[path.replace(".", "/")].load_state_dict(layer.state_dict())
