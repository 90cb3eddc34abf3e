"""Which kernels a run computes with, for hardware that is described and not there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from services.trainer.job.base_weights import base_weights_for
from services.trainer.job.kernels import (
    FLASH_PACKAGE,
    LIGER_PACKAGE,
    Hardware,
    attention_for,
    computes_in_bfloat16,
    liger_for,
    without_flash,
)
from services.trainer.job.layout import layout_for
from shared.errors import InvalidInputError
from shared.recipe import TrainingRecipe
from shared.recipe_checks import recipe_problems

ALL = frozenset({FLASH_PACKAGE, LIGER_PACKAGE})
H100 = Hardware("NVIDIA H100 80GB HBM3", (9, 0), True, ALL)
BARE = Hardware("NVIDIA H100 80GB HBM3", (9, 0), True)
T4 = Hardware("Tesla T4", (7, 5), False, ALL)
MI300X = Hardware("AMD Instinct MI300X", None, True, ALL)
CPU = Hardware(packages=ALL)
EWC = {"forgetting": {"ewc": {"strength": 1}}, "start_from": "production"}


def recipe(**fields: Any) -> TrainingRecipe:
    return TrainingRecipe.model_validate(fields)


@pytest.mark.parametrize(("hardware", "able", "fields", "value", "why"), [
    (H100, True, {}, "flash_attention_2", "end to end"),
    (H100, True, {"objective": "pretrain"}, "flash_attention_2", "with a package that can"),
    (BARE, True, {}, "sdpa", "flash-attn is not installed"), (T4, True, {}, "sdpa", "Tesla T4 is no CUDA GPU of"),
    (MI300X, True, {}, "sdpa", "capability 8.0"), (CPU, True, {}, "sdpa", "no GPU"),
    (H100, False, {}, "sdpa", "base model's code"), (H100, True, {"precision": "float32"}, "sdpa", "in float32"),
    (H100, True, {"objective": "dpo"}, "sdpa", "rows of dpo with lora do not share"),
    (H100, True, {"method": "prefix"}, "sdpa", "rows of sft with prefix"), (H100, True, EWC, "sdpa", "importances"),
    (H100, True, {"attention": "eager"}, "eager", "the recipe says so"),
])
def test_attention_follows_gpu_package_precision_and_rows(
    hardware: Hardware, able: bool, fields: dict[str, Any], value: str, why: str
) -> None:
    found = attention_for(recipe(**fields), hardware, able=able)
    assert found.value == value
    assert why in found.why


def test_flash_attention_is_packed_without_padding() -> None:
    assert layout_for(recipe(), attention_for(recipe(), H100, able=True).value).packing == "padding_free"
    assert layout_for(recipe(), attention_for(recipe(), BARE, able=True).value).packing == "bfd"


def test_flash_attention_that_is_insisted_on_is_refused_where_it_cannot_run() -> None:
    with pytest.raises(InvalidInputError, match=r"training.attention: .* Tesla T4 is no CUDA GPU .*; write auto"):
        attention_for(recipe(attention="flash_attention_2"), T4, able=True)
    assert list(recipe_problems(recipe(attention="flash_attention_2"))) == []
    (found,) = recipe_problems(recipe(attention="flash_attention_2", precision="float32"))
    assert found == ("precision", "flash attention does not compute in float32; write attention: auto or sdpa")


@pytest.mark.parametrize(("hardware", "objective", "said"), [
    (H100, "sft", "on: fused"), (MI300X, "distill", "on: fused"), (H100, "dpo", "off: the trainer of dpo"),
    (H100, "grpo", "off: the trainer of grpo"), (BARE, "sft", "off: the package"), (CPU, "sft", "off: there is no GPU"),
])
def test_ligers_layers_are_for_gpus_that_have_them_and_trainers_that_take_them(
    hardware: Hardware, objective: str, said: str
) -> None:
    assert str(liger_for(recipe(objective=objective), hardware)).startswith(said)


def test_the_precision_follows_the_gpu() -> None:
    assert computes_in_bfloat16(recipe(), H100)
    assert not computes_in_bfloat16(recipe(), T4)
    assert not computes_in_bfloat16(recipe(), CPU)
    assert computes_in_bfloat16(recipe(precision="bfloat16"), CPU)
    with pytest.raises(InvalidInputError, match="Tesla T4 does not compute in bfloat16"):
        computes_in_bfloat16(recipe(precision="bfloat16"), T4)


@pytest.mark.parametrize(("used", "seen"), [("flash_attention_2", ["sdpa", "flash_attention_2"]), ("eager", [])])
def test_what_is_compared_is_computed_without_flash_attention(used: str, seen: list[str]) -> None:
    class Model:
        class config:  # noqa: N801 - transformers' name
            _attn_implementation = used

        def __init__(self) -> None:
            self.seen: list[str] = []

        def set_attn_implementation(self, name: str) -> None:
            self.seen.append(name)

    model = Model()
    with pytest.raises(ZeroDivisionError), without_flash(model):
        raise ZeroDivisionError
    assert model.seen == seen


@pytest.mark.parametrize(("hardware", "fields", "said"), [
    (H100, {}, "bfloat16: products round it so anyway"), (H100, {"method": "prompt"}, "bfloat16: products"),
    (H100, {"precision": "float32"}, "float32: products are in it"), (H100, EWC, "float32: importances"),
    (H100, {"forgetting": {"l2": {}}, "start_from": "production"}, "bfloat16: products"),
    (T4, {}, "float32: Tesla T4 does not compute"), (CPU, {}, "float32: there is no GPU"),
    (CPU, {"precision": "bfloat16"}, "float32: there is no GPU"), (H100, {"method": "full"}, "None"),
    (H100, {"method": "qlora"}, "None"), (CPU, {"base_weights": "bfloat16"}, "None"),
])
def test_a_frozen_base_is_narrow_where_products_are(hardware: Hardware, fields: dict[str, Any], said: str) -> None:
    assert str(base_weights_for(recipe(**fields), hardware, None)).startswith(said)


@pytest.mark.parametrize(("hardware", "metadata", "said"), [
    (H100, {"base_weights": "bfloat16"}, "bfloat16: products"), (H100, None, "float32: as the run began"),
    (CPU, {"base_weights": "bfloat16"}, "bfloat16: as the run began"), (CPU, None, "float32: there is no GPU"),
])
def test_a_resumed_run_has_the_base_that_it_began_with(
    tmp_path: Path, hardware: Hardware, metadata: dict[str, str] | None, said: str
) -> None:
    """A checkpoint of an earlier release says nothing of it: all was in float32."""
    save_file({"weight": torch.zeros(1)}, tmp_path / "trained.safetensors", metadata=metadata)
    found = base_weights_for(recipe(), hardware, tmp_path / "trained.safetensors")
    assert str(found).startswith(said)


def test_a_narrow_base_is_multiplied_in_bfloat16() -> None:
    narrow = recipe(base_weights="bfloat16")
    assert computes_in_bfloat16(narrow, CPU)
    assert not computes_in_bfloat16(recipe(), CPU)
    with pytest.raises(InvalidInputError, match=r"training.baseWeights: Tesla T4 does not compute in bfloat16; write"):
        computes_in_bfloat16(narrow, T4)


@pytest.mark.parametrize(("fields", "said"), [
    ({"method": "full"}, "has no effect with method: full; remove it, or train with"),
    ({"method": "qlora"}, "has no effect with method: qlora"),
    ({"precision": "float32"}, "is multiplied in bfloat16; write auto or float32, or precision: auto"),
    (EWC, "computed in float32; write auto or float32"),
])
def test_a_narrow_base_is_refused_where_it_cannot_be(fields: dict[str, Any], said: str) -> None:
    assert list(recipe_problems(recipe(base_weights="bfloat16"))) == []
    assert said in dict(recipe_problems(recipe(base_weights="bfloat16", **fields)))["baseWeights"]
