"""Shapes from config.json: as many weights as the models' cards state."""

from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidInputError, NotFoundError
from shared.estimate import KNOWN, Setup, is_known, known_shape, shape_of
from shared.estimate.adapters import trainable_parameters

# What the cards and the checkpoints' indexes state.
PUBLISHED = {
    "smollm2-135m": 134_515_008, "smollm2-360m": 361_821_120, "smollm2-1.7b": 1_711_376_384,
    "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320, "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824, "llama-3.1-8b": 8_030_261_248, "llama-3.1-70b": 70_553_706_496,
    "qwen2.5-0.5b": 494_032_768, "qwen2.5-1.5b": 1_543_714_304, "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512, "qwen2.5-14b": 14_770_033_664, "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648, "qwen3-0.6b": 596_049_920, "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096, "qwen3-8b": 8_190_735_360, "qwen3-14b": 14_768_307_200, "qwen3-32b": 32_762_123_264,
    "mistral-7b-v0.3": 7_248_023_552, "gemma-2-2b": 2_614_341_888, "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320, "gemma-3-1b": 999_885_952, "phi-3.5-mini": 3_821_079_552, "phi-4": 14_659_507_200,
}
BASE = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
}


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"tiny"}))
def test_a_known_model_has_as_many_weights_as_its_card_states(name: str) -> None:
    assert known_shape(name).parameters == PUBLISHED[name]


def test_a_models_name_may_have_an_owner_and_an_ending() -> None:
    assert known_shape("Qwen/Qwen2.5-7B-Instruct") == known_shape("qwen2.5-7b")
    assert known_shape("google/gemma-2-2b-it") == known_shape("gemma-2-2b")
    assert known_shape("llama-3-1-8b-instruct") == known_shape("llama-3.1-8b"), "as a pipeline may call it"
    assert not is_known("qwen2.5-8b")
    with pytest.raises(NotFoundError, match=r"qwen2\.5-8b is not one of"):
        known_shape("qwen2.5-8b")


@pytest.mark.parametrize(("change", "message"), [
    ({"model_type": "mamba"}, "model_type 'mamba' is not one that can be estimated; it can be gemma, "),
    ({"hidden_size": None}, "hidden_size must be a positive whole number, and is None"),
    ({"num_hidden_layers": "2"}, "num_hidden_layers must be a positive whole number, and is '2'"),
    ({"vocab_size": 0}, "vocab_size must be a positive whole number, and is 0"),
])
def test_a_config_that_is_none_says_which_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        shape_of({"model_type": "llama", **BASE, **change})


def _count(method: Any, **more: Any) -> int:
    setup = Setup(method=method, gradient_checkpointing=method != "prefix", **more)
    return trainable_parameters(shape_of({"model_type": "llama", **BASE}), setup)


def test_what_each_method_trains_by_hand() -> None:
    """2 blocks of width 32: q 64, k and v 32, o from 64, feed-forward 48."""
    attention = (32 + 64) + 2 * (32 + 32) + (64 + 32)
    assert _count("lora", rank=4) == 2 * 4 * (attention + 3 * (32 + 48))
    assert _count("qlora", rank=4) == _count("lora", rank=4)
    assert _count("lora", rank=4, target_modules=["q_proj", "v_proj"]) == 2 * 4 * ((32 + 64) + (32 + 32))
    assert _count("dora", rank=4) == _count("lora", rank=4) + 2 * (64 + 32 + 32 + 32 + 48 + 48 + 32)
    assert _count("ia3") == 2 * (32 + 32 + 48)
    assert _count("prefix", virtual_tokens=5) == 5 * 2 * 2 * 32
    assert _count("prompt", virtual_tokens=5) == 5 * 32
    assert _count("adapter", bottleneck=8) == 2 * 2 * (2 * 32 * 8 + 8 + 32)


def test_a_target_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInputError, match="no linear layer query; it has q_proj, k_proj"):
        _count("lora", target_modules=["query"])


def test_sources_are_told_for_every_gpu() -> None:
    from shared.estimate import GPUS, gpu_named

    assert all(gpu.source for gpu in GPUS)
    assert [gpu.memory for gpu in GPUS] == sorted(gpu.memory for gpu in GPUS)
    assert gpu_named("H100").tflops == pytest.approx(1979 / 2, rel=1e-3)
    with pytest.raises(NotFoundError, match="no GPU h1000 in the table"):
        gpu_named("h1000")


def test_the_page_has_the_table() -> None:
    from shared.estimate import GPUS

    page = (Path(__file__).parents[3] / "docs" / "advisor.md").read_text()
    for gpu in GPUS:
        assert f"| {gpu.name} | {gpu.memory // 10**9} | {gpu.tflops:g} | {gpu.bandwidth / 10**9:g} |" in page
