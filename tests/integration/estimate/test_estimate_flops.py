"""Operations per step against those that torch counts in a real forward and backward pass."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from shared.estimate import Setup, flops_per_token, shape_of
from shared.estimate.compute import attention_flops, flops_per_step

pytestmark = pytest.mark.integration

CONFIG: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "tie_word_embeddings": True, "max_position_embeddings": 512,
}
ROWS, LENGTH = 4, 32


def counted(setup: Setup) -> int:
    """Of all matrix products but those of attention, which torch does not count on a CPU."""
    model: Any = LlamaForCausalLM(LlamaConfig(**CONFIG))
    if setup.method != "full":
        use_dora = setup.method == "dora"
        config = LoraConfig(r=setup.rank, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=use_dora)
        model = get_peft_model(model, config)
    # Also where the embedding is frozen: the gradient goes through the first block as through the others.
    model.enable_input_require_grads()
    if setup.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    ids = torch.ones(ROWS, LENGTH, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert {str(operation) for operation in counter.get_flop_counts()["Global"]} <= {"aten.mm", "aten.addmm"}
    return int(counter.get_total_flops())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["full", "lora", "dora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_are_those_that_torch_counts(method: str, checkpointing: bool) -> None:
    setup = Setup.model_validate({
        "method": method, "gradient_checkpointing": checkpointing, "loss": "full", "sequence_length": LENGTH,
        "micro_batch": ROWS, "precision": "float32",
    })
    shape = shape_of({"model_type": "llama", **CONFIG})
    passes = 4 if checkpointing else 3
    without_attention = flops_per_token(shape, setup) - passes * attention_flops(shape, setup)
    expected = ROWS * LENGTH * without_attention + flops_per_step(shape, setup)
    assert counted(setup) == pytest.approx(expected, rel=0.01)
