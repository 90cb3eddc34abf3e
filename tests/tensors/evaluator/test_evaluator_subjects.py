"""Adapters on and off: the base stays itself, each adapter does something, and what does nothing is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from services.evaluator.job.subjects import Subjects
from shared.errors import InvalidInputError, PermanentError
from shared.prompts import Example

# PEFT still reads a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
PROBES = [Example(input_ids=[5, 6, 7, 8, 3], prompt_length=3), Example(input_ids=[9, 4, 3], prompt_length=2)]


def make_model(hidden: int = 16) -> Any:
    torch.manual_seed(7)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=30, hidden_size=hidden, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=3, pad_token_id=0,
    )).eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_model().save_pretrained(folder)
    return folder


def make_adapter(folder: Path, *, trained: bool = True, hidden: int = 16, seed: int = 1) -> Path:
    model = make_model(hidden)
    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=not trained)
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    return result


def test_each_subject_answers_as_itself_however_often_they_take_turns(base: Path, tmp_path: Path) -> None:
    plain = logits(make_model())
    subjects = Subjects(base, PROBES)
    subjects.attach("candidate", make_adapter(tmp_path / "one", seed=1), name="one")
    subjects.attach("production", make_adapter(tmp_path / "two", seed=2), name="two")
    seen: dict[str, torch.Tensor] = {}
    for subject in ("base", "candidate", "production", "base", "production", "candidate"):
        with subjects.active(subject) as model:
            found = logits(model)
        assert torch.equal(seen.setdefault(subject, found), found)
    assert torch.equal(seen["base"], plain)
    assert not torch.allclose(seen["candidate"], plain)
    assert not torch.allclose(seen["candidate"], seen["production"])


def test_an_adapter_that_was_never_trained_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "idle", trained=False)
    with pytest.raises(PermanentError, match=r"adapter X changes nothing.*never trained"):
        Subjects(base, PROBES).attach("candidate", adapter, name="adapter X")


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_an_adapter_whose_weights_are_for_other_modules_is_refused(base: Path, tmp_path: Path) -> None:
    """PEFT only warns about it, and would measure the base with whatever an untrained adapter does."""
    adapter = make_adapter(tmp_path / "elsewhere")
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name.replace("layers.0", "layers.7"): value for name, value in weights.items()},
        adapter / "adapter_model.safetensors",
    )
    said = r"adapter X does not fit.*no weights for.*layers\.0.*no place for.*layers\.7"
    with pytest.raises(InvalidInputError, match=said):
        Subjects(base, PROBES).attach("candidate", adapter, name="adapter X")


def test_an_adapter_of_another_shape_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="adapter X does not fit the base model"):
        Subjects(base, PROBES).attach("candidate", make_adapter(tmp_path / "wide", hidden=32), name="adapter X")


def test_only_safetensors_are_adapters(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "pickled")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(InvalidInputError, match=r"not an adapter: adapter_model\.safetensors missing"):
        Subjects(base, PROBES).attach("candidate", adapter, name="adapter X")
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
