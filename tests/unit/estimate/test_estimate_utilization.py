"""Model FLOPs utilization, and the peaks that it is a share of."""

from typing import Any

import pytest

from shared.estimate import (
    GPUS,
    Setup,
    gpu_of_device,
    known_shape,
    mean_context,
    model_flops_per_token,
    model_flops_utilization,
)
from shared.estimate.gpus import DRIVER_NAMES

SHAPE = known_shape("llama-3.1-8b")
# 32 layers of 218,103,808 weights and an output layer of 128,256 x 4,096; the embedding is looked up.
WEIGHTS = 32 * 218_103_808 + 128_256 * 4096


def test_operations_are_those_of_the_paper() -> None:
    full = 6 * WEIGHTS + 12 * 32 * 32 * 128 * 2048
    assert model_flops_per_token(SHAPE, Setup(method="full"), 2048) == full
    assert model_flops_per_token(SHAPE, Setup(method="lora"), 2048) == full - 2 * WEIGHTS
    checkpointed = Setup(method="full", gradient_checkpointing=True)
    assert model_flops_per_token(SHAPE, checkpointed, 2048) == full, "what is computed twice is no progress"


def test_utilization_is_the_share_of_all_devices_peaks() -> None:
    operations = model_flops_per_token(SHAPE, Setup(method="full"), 1024)
    at_peak = 989.4e12 / operations
    measured: dict[str, Any] = {"context": 1024, "tflops": 989.4}
    setup = Setup(method="full")
    assert model_flops_utilization(SHAPE, setup, tokens_per_second=at_peak, **measured) == pytest.approx(1)
    assert model_flops_utilization(SHAPE, setup, tokens_per_second=at_peak, devices=4, **measured) == pytest.approx(.25)


def test_context_is_that_of_the_mean_token() -> None:
    assert mean_context([100] * 5) == 100
    assert mean_context([10, 30]) == (10 * 10 + 30 * 30) / 40
    assert mean_context([]) == 0


@pytest.mark.parametrize(("name", "gpu"), [
    ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H100 PCIe", "h100-pcie"), ("NVIDIA H200", "h200"), ("Tesla T4", "t4"),
    ("NVIDIA A100-SXM4-80GB", "a100-80gb"), ("NVIDIA A100-PCIE-40GB", "a100-40gb"), ("NVIDIA L4", "l4"),
    ("NVIDIA GeForce RTX 4090", "rtx-4090"), ("NVIDIA RTX A6000", "rtx-a6000"), ("NVIDIA L40S", "l40s"),
    ("Tesla V100-SXM2-32GB", "v100-32gb"), ("AMD Instinct MI300X OAM", "mi300x"),
    ("NVIDIA A10G", None), ("NVIDIA H100 NVL", None), ("NVIDIA GeForce RTX 4090 Laptop GPU", None), ("", None),
])
def test_a_driver_s_name_finds_its_card_and_no_other(name: str, gpu: str | None) -> None:
    found = gpu_of_device(name)
    assert (found.name if found else None) == gpu


def test_each_card_of_the_table_has_a_driver_s_name() -> None:
    assert sorted(DRIVER_NAMES.values()) == sorted(gpu.name for gpu in GPUS)
