"""Everything that makes a model server fail or answer wrongly is found in the files before it sees them."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.serving.adapter_files import InvalidAdapterError, read_adapter
from tests.support.adapters import CONFIG, write_tensors

STEM = "base_model.model.model.layers.0.self_attn.q_proj"
SHAPES: dict[str, tuple[int, ...]] = {f"{STEM}.lora_A.weight": (4, 8), f"{STEM}.lora_B.weight": (8, 4)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    write_tensors(tmp_path / "adapter_model.safetensors", SHAPES)
    return tmp_path


def reason(folder: Path, *, max_rank: int = 8) -> str:
    with pytest.raises(InvalidAdapterError) as caught:
        read_adapter(folder, max_rank=max_rank)
    return str(caught.value)


def test_a_good_adapter_is_described(folder: Path) -> None:
    files = read_adapter(folder, max_rank=4)
    assert (files.rank, files.shapes) == (4, SHAPES)


@pytest.mark.parametrize(("change", "word"), [
    ({"use_dora": True}, "DoRA"), ({"modules_to_save": ["lm_head"]}, "modules_to_save"), ({"bias": "all"}, "bias"),
    ({"peft_type": "IA3"}, "peft_type"), ({"r": 0}, "positive"), ({"r": "8"}, "positive"),
    ({"rank_pattern": {"q_proj": 64}}, "rank 64"),
])
def test_what_cannot_be_served_is_refused(folder: Path, change: dict[str, Any], word: str) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **change}))
    assert word in reason(folder)


def test_a_rank_beyond_the_server_s_limit_is_refused(folder: Path) -> None:
    assert "rank 4 is larger than the 2" in reason(folder, max_rank=2)


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "data.pkl"])
def test_only_safetensors(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    assert name in reason(folder)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        read_adapter(folder, max_rank=8)


def test_a_config_that_is_not_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")
    assert "adapter_config.json is not JSON" in reason(folder)


@pytest.mark.parametrize("keep", [0, 4, 8, 50, -1])
def test_a_truncated_file(folder: Path, keep: int) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "truncated" in reason(folder)


def test_a_file_that_only_looks_like_safetensors(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0hello")
    assert "not safetensors" in reason(folder)


@pytest.mark.parametrize("shapes", [
    {**SHAPES, "base_model.model.lm_head.weight": (8, 8)},
    {f"{STEM}.lora_A.weight": (4, 8)},
    {f"{STEM}.lora_A.weight": (5, 8), f"{STEM}.lora_B.weight": (8, 5)},
    {f"{STEM}.lora_A.weight": (4,), f"{STEM}.lora_B.weight": (8, 4)},
    {},
])
def test_tensors_that_are_no_lora_of_this_rank(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    write_tensors(folder / "adapter_model.safetensors", shapes)
    assert "adapter_model.safetensors" in reason(folder)
