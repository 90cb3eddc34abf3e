"""Memory, time and fit: worked out by hand where a hand can, and in order where it cannot."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import InvalidInputError
from shared.estimate import (
    EstimateRequest,
    Hardware,
    Rows,
    Setup,
    Work,
    estimate,
    flops_per_token,
    known_shape,
    memory,
    seconds,
    setup_of,
    shape_of,
)
from shared.estimate.adapters import trainable_parameters
from shared.estimate.drawing import cache_bytes, drawing_bytes
from shared.estimate.memory import weight_bytes
from shared.recipe import TrainingRecipe

LLAMA = known_shape("llama-2-7b")
N = 6_738_415_616


def setup(**values: Any) -> Setup:
    return Setup.model_validate({"sequence_length": 2048, "micro_batch": 1, **values})


def test_full_training_keeps_sixteen_bytes_a_weight_in_float32() -> None:
    """Weights, gradients and two moments (Rajbhandari et al., arXiv 1910.02054, section 3.1)."""
    found = memory(LLAMA, setup(method="full", precision="float32"))
    assert found.weights + found.gradients + found.optimizer == 16 * N
    assert found.phases["optimizer step"] == 16 * N


@pytest.mark.parametrize(("optimizer", "bytes_each"), [
    ("adamw", 8.0), ("paged_adamw", 8.0), ("adamw_8bit", 2 + 8 / 256), ("sgd", 0.0),
])
def test_the_states_of_optimizers(optimizer: str, bytes_each: float) -> None:
    found = memory(LLAMA, setup(method="full", precision="float32", optimizer=optimizer))
    assert found.optimizer == pytest.approx(bytes_each * N)
    assert found.pageable == (found.optimizer if optimizer.startswith("paged") else 0)


@pytest.mark.parametrize(("asked", "precision", "bytes_each"), [
    ({"method": "lora"}, "bfloat16", 2), ({"method": "prompt"}, "bfloat16", 2), ({"method": "full"}, "mixed", 4),
    ({"method": "lora", "held_by": "ewc"}, "mixed", 4), ({"method": "lora", "held_by": "l2"}, "bfloat16", 2),
    ({"method": "lora", "device": "cpu"}, "float32", 4), ({"method": "dora", "precision": "mixed"}, "mixed", 4),
])
def test_a_frozen_base_takes_two_bytes_a_weight_on_a_gpu(
    asked: dict[str, Any], precision: str, bytes_each: int
) -> None:
    made = setup(**asked)
    adapter = 0 if made.method == "full" else trainable_parameters(LLAMA, made) * 4
    assert made.precision == precision
    assert weight_bytes(LLAMA, made) == bytes_each * N + adapter


@pytest.mark.parametrize(("fields", "gpu", "precision"), [
    ({}, True, "bfloat16"), ({}, False, "float32"), ({"base_weights": "float32"}, True, "mixed"),
    ({"base_weights": "bfloat16"}, False, "bfloat16"), ({"method": "full"}, True, "mixed"),
    ({"method": "qlora"}, True, "mixed"), ({"precision": "float32"}, True, "float32"),
    ({"precision": "bfloat16"}, False, "mixed"),
])
def test_a_recipe_says_how_its_base_is_kept(fields: dict[str, Any], gpu: bool, precision: str) -> None:
    assert setup_of(TrainingRecipe.model_validate(fields), on_gpu=gpu).precision == precision


def test_a_narrow_base_is_a_remedy_where_it_is_wide() -> None:
    wide = setup(method="lora", precision="mixed", micro_batch=1)
    single = {item.change: item for item in estimate(
        LLAMA, EstimateRequest(setup=wide, hardware=Hardware(gpu="rtx-4090"))
    ).remedies}
    [name] = [change for change in single if change.startswith("baseWeights: bfloat16 with precision: bfloat16")]
    assert single[name].saves > 1.9 * N
    held = setup(method="lora", precision="float32", held_by="ewc")
    found = estimate(LLAMA, EstimateRequest(setup=held, hardware=Hardware(gpu="rtx-4090"))).remedies
    assert not any("baseWeights" in item.change for item in found)


def test_a_second_base_is_kept_as_the_first() -> None:
    assert memory(LLAMA, setup(method="adapter", objective="dpo")).beside == 2 * N
    assert memory(LLAMA, setup(method="full", objective="dpo", precision="mixed")).beside == 4 * N


def test_nf4_takes_half_a_byte_and_its_scales() -> None:
    """Double quantisation saves 0.373 bits a weight (Dettmers et al., arXiv 2305.14314, section 3)."""
    double, single = (weight_bytes(LLAMA, setup(method="qlora", double_quantization=both)) for both in (True, False))
    assert (single - double) * 8 / LLAMA.linear_parameters == pytest.approx(0.373, abs=0.001)
    rest = (N - LLAMA.linear_parameters) * 4
    adapter = 8 * 32 * (4 * (4096 + 4096) + 3 * (4096 + 11008)) * 4
    assert double - rest - adapter == pytest.approx(LLAMA.linear_parameters * (0.5 + 0.127 / 8), rel=1e-4)


def test_a_7b_fits_by_qlora_where_people_train_it() -> None:
    qlora = estimate(LLAMA, EstimateRequest(setup=setup(method="qlora", micro_batch=4), hardware=Hardware(gpu="l4")))
    assert qlora.fits
    assert qlora.memory.peak < 16e9
    lora = estimate(LLAMA, EstimateRequest(setup=setup(method="lora"), hardware=Hardware(gpu="t4")))
    assert lora.fits is False


@pytest.mark.parametrize(("asked", "bytes_each"), [
    ({"method": "full", "objective": "dpo"}, 4), ({"method": "full", "objective": "ppo"}, 4),
    ({"method": "lora", "objective": "dpo"}, 0), ({"method": "full"}, 0),
    ({"method": "full", "held_by": "l2"}, 4), ({"method": "full", "held_by": "ewc"}, 8),
    ({"method": "lora", "objective": "distill", "teacher_parameters": N, "precision": "mixed"}, 2),
    ({"method": "lora", "objective": "distill", "teacher_parameters": N, "device": "cpu"}, 4),
    ({"method": "lora", "objective": "rloo", "reward_parameters": N, "precision": "mixed"}, 4),
    ({"method": "full", "objective": "ppo", "reward_parameters": N}, 8),
    ({"method": "lora", "objective": "sft", "reward_parameters": N}, 0),
])
def test_what_objectives_keep_beside_the_model(asked: dict[str, Any], bytes_each: int) -> None:
    """A reference that is the base once more, where weights started and how they are held, a teacher."""
    given = {"precision": "float32", **asked}
    assert memory(LLAMA, setup(**given)).beside == bytes_each * N


def test_an_adapters_anchor_is_as_small_as_the_adapter() -> None:
    adapter = memory(LLAMA, setup(method="lora")).gradients
    assert memory(LLAMA, setup(method="lora", held_by="ewc")).beside == 2 * adapter


def test_the_pull_to_the_start_needs_three_copies_of_the_largest_weight() -> None:
    phases = memory(LLAMA, setup(method="full", precision="float32", held_by="l2")).phases
    assert phases["pull to the start"] == (16 + 4) * N + 3 * 4 * 32000 * 4096


def test_better_and_worse_answers_are_read_at_once_and_a_reward_model_has_no_logits() -> None:
    plain, twice = memory(LLAMA, setup(micro_batch=2)), memory(LLAMA, setup(micro_batch=1, objective="dpo"))
    assert (twice.activations, twice.logits) == (plain.activations, plain.logits)
    judged = memory(LLAMA, setup(micro_batch=1, objective="reward"))
    assert judged.activations == plain.activations
    assert judged.logits == 2 * 2048 * 4096 * 4


def test_distillation_keeps_the_logits_of_both_models() -> None:
    """36 bytes a word and token on a CPU: both logits twice, both distributions, and the terms of the divergence."""
    found = memory(LLAMA, setup(objective="distill", precision="float32", device="cpu"))
    assert found.logits == 2048 * 32000 * 36 + 2048 * 4096 * 4


SHAPE = shape_of({
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 32, "max_position_embeddings": 64, "tie_word_embeddings": True,
})


def drawn(objective: str = "grpo", **values: Any) -> Setup:
    return setup(
        objective=objective, precision="float32", sequence_length=10, micro_batch=3, gradient_accumulation=2, **values
    )


def test_answers_are_drawn_from_a_cache_of_keys_and_values() -> None:
    """Six answers of a prompt of one token, of which the last of ten is never read: two layers' keys and values of
    four numbers, the old keys of one layer, and two tables of logits; four tables are more than the keys and two.
    """
    cache, keys, table = 6 * 9 * 2 * 2 * 4 * 4, 6 * 9 * 4 * 4, 6 * 32 * 4
    assert drawing_bytes(SHAPE, drawn(answer_tokens=64)) == cache + max(keys + 2 * table, 4 * table)
    one = 3 * (9 * 2 * 2 * 4 * 4 + 4 * 32 * 4)
    assert drawing_bytes(SHAPE, drawn("ppo", answer_tokens=9)) == one, "a batch of ppo's draws its own"


def test_prompts_are_read_at_once() -> None:
    """Nine tokens each: their cache, four hidden states, a gated layer's operands, sines and cosines, and a mask."""
    token = 2 * 2 * 4 * 4 + 4 * 8 * 4 + 2 * 4 * 4 + 9
    for method, inner in (("full", 3), ("lora", 4), ("dora", 6)):
        found = drawing_bytes(SHAPE, drawn(method=method, answer_tokens=1))
        assert found == 6 * 9 * (token + inner * 16 * 4), method


@pytest.mark.parametrize(("method", "precision", "numbers"), [
    ("lora", "float32", 8), ("lora", "mixed", 6), ("full", "mixed", 6), ("lora", "bfloat16", 4),
    ("full", "bfloat16", 4), ("qlora", "bfloat16", 8),
])
def test_a_cache_is_in_the_precision_in_which_it_is_computed(method: str, precision: str, numbers: int) -> None:
    """Bytes of a key and a value: autocast narrows values alone."""
    assert cache_bytes(LLAMA, setup(objective="grpo", method=method, precision=precision)) == 4096 * numbers


def test_drawing_is_a_phase_beside_the_states_of_the_optimizer() -> None:
    found = memory(SHAPE, drawn(method="full"))
    assert found.phases["drawing answers"] == \
        found.weights + found.beside + found.optimizer + drawing_bytes(SHAPE, drawn(method="full"))
    undone = memory(SHAPE, drawn("ppo", method="full"))
    assert undone.phases["drawing answers"] - drawing_bytes(SHAPE, drawn("ppo", method="full")) == \
        undone.weights + undone.beside + undone.optimizer + undone.gradients
    assert "drawing answers" not in memory(SHAPE, drawn("sft")).phases


def test_ppo_keeps_the_logits_of_answers_and_of_the_token_before() -> None:
    found = memory(SHAPE, drawn("ppo", answer_tokens=4))
    assert found.logits == 3 * (4 + 1) * 32 * 3 * 4 + 3 * 10 * 8 * 4


def test_frozen_models_go_forwards_too() -> None:
    plain, dpo, kto = (flops_per_token(LLAMA, setup(objective=each)) for each in ("sft", "dpo", "kto"))
    assert kto - plain == pytest.approx(3 * (dpo - plain))
    assert dpo - plain == pytest.approx(2 * N, rel=0.1)
    taught = flops_per_token(LLAMA, setup(objective="distill", teacher_parameters=10**9))
    assert taught - plain == pytest.approx(2e9)


@pytest.mark.parametrize(("asked", "noted"), [
    ({"objective": "distill"}, "the teacher is not counted"), ({"objective": "grpo"}, "no reward model is counted"),
])
def test_what_is_not_counted_is_said(asked: dict[str, Any], noted: str) -> None:
    assert any(noted in note for note in estimate(LLAMA, EstimateRequest(setup=setup(**asked))).notes)


def test_memory_grows_with_what_it_should() -> None:
    def peak(**values: Any) -> int:
        return memory(LLAMA, setup(**values)).peak

    assert peak(micro_batch=8) > peak(micro_batch=4) > peak()
    assert peak(gradient_checkpointing=False) > peak()
    assert peak(method="full") > peak(method="dora", rank=64) > peak(method="lora", rank=64) > peak(method="qlora")
    assert peak(rank=64) > peak(rank=8)
    assert peak(loss="full", micro_batch=8) > peak(micro_batch=8)
    assert peak(dropout=0.1, gradient_checkpointing=False) > peak(gradient_checkpointing=False)
    assert memory(LLAMA, setup(method="full", gradient_accumulation=2)).phases["loss"] > \
        memory(LLAMA, setup(method="full")).phases["loss"]


def test_full_training_costs_six_operations_a_weight() -> None:
    """With short rows attention is nothing, and without the second pass over the logits it is 6 N."""
    plain = setup(method="full", gradient_checkpointing=False, loss="full", sequence_length=1)
    matrices = LLAMA.linear_parameters + LLAMA.vocabulary * LLAMA.hidden
    assert flops_per_token(LLAMA, plain) == pytest.approx(6 * matrices, rel=1e-3)
    frozen = setup(method="lora", gradient_checkpointing=False, loss="full", sequence_length=1, rank=1)
    assert flops_per_token(LLAMA, frozen) == pytest.approx(4 * matrices, rel=0.01)
    again = setup(method="full", loss="full", sequence_length=1)
    # All blocks forwards once more, but for the last layer of each.
    repeated = 2 * (LLAMA.linear_parameters - 32 * 4096 * 11008)
    assert flops_per_token(LLAMA, again) == pytest.approx(6 * matrices + repeated, rel=1e-3)


def test_time_is_work_over_speed() -> None:
    work = Work(rows=1000, tokens_per_row=500, epochs=2)
    kwargs: dict[str, Any] = {"tflops": 312.0, "bandwidth": 2e12, "utilization": 0.5}
    alone = seconds(LLAMA, setup(), work, **kwargs)
    assert alone == pytest.approx(1e6 * flops_per_token(LLAMA, setup()) / (312e12 * 0.5))
    assert seconds(LLAMA, setup(), work, **kwargs, gpus=4) == pytest.approx(alone / 4)
    padded = Work(rows=1000, tokens_per_row=500, epochs=2, fill=0.5)
    assert seconds(LLAMA, setup(), padded, **kwargs) == pytest.approx(2 * alone)
    assert seconds(LLAMA, setup(method="qlora"), work, **kwargs) > alone
    assert seconds(LLAMA, setup(method="dora"), work, **kwargs) > alone


def test_an_answer_has_time_and_cost_where_they_can_be_known() -> None:
    data = Rows(rows=1000, tokens_per_row=100)
    priced = Hardware(gpu="a100-80gb", usd_per_hour=2)
    told = estimate(LLAMA, EstimateRequest(setup=setup(), hardware=priced, data=data))
    assert told.time is not None
    assert told.time.usd == pytest.approx(2 * told.time.seconds / 3600)
    assert estimate(LLAMA, EstimateRequest(setup=setup(), data=data)).time is None
    assert estimate(LLAMA, EstimateRequest(setup=setup(), hardware=Hardware(gpu="h100"))).time is None
    own = Hardware(memory_gb=24, tflops=50)
    assert estimate(LLAMA, EstimateRequest(setup=setup(), hardware=own, data=data)).time is not None


def test_what_does_not_fit_says_what_would_make_it_fit() -> None:
    asked = EstimateRequest(
        setup=setup(method="full", precision="mixed", micro_batch=8, gradient_checkpointing=False),
        hardware=Hardware(memory_gb=24),
    )
    answer = estimate(LLAMA, asked)
    assert answer.fits is False
    assert [item.peak for item in answer.remedies] == sorted(item.peak for item in answer.remedies)
    assert all(item.saves > 0 for item in answer.remedies)
    assert answer.together[-1].fits
    assert not any(item.fits for item in answer.together[:-1])
    words = " ".join(item.change for item in answer.remedies)
    for word in ("gradientCheckpointing: true", "batchSize: 1 with gradientAccumulation: 8", "method: qlora",
                 "optimizer: paged_adamw_8bit", "maxLength: 1024", "distributed: fsdp with resources.gpu: 8"):
        assert word in words


def test_on_a_cpu_there_is_nowhere_to_page_to() -> None:
    asked = setup(method="full", device="cpu", precision="float32")
    answer = estimate(LLAMA, EstimateRequest(setup=asked, hardware=Hardware(memory_gb=24)))
    changes = [item.change for item in answer.remedies]
    assert "optimizer: adamw_8bit" in changes
    assert not [change for change in changes if "fsdp" in change]
    paged = setup(method="full", optimizer="paged_adamw_8bit", device="cpu")
    assert memory(LLAMA, paged).pageable == 0


def test_a_change_that_is_not_needed_is_not_advised() -> None:
    answer = estimate(LLAMA, EstimateRequest(setup=setup(method="full"), hardware=Hardware(memory_gb=12)))
    assert [item.change for item in answer.together] == ["method: qlora (the base in 4 bits)"]


def test_what_nothing_helps_says_so() -> None:
    answer = estimate(known_shape("llama-3.1-70b"), EstimateRequest(setup=setup(), hardware=Hardware(memory_gb=8)))
    assert answer.together == []
    assert answer.remedies


def test_a_gpu_without_bfloat16_runs_float32_alone() -> None:
    small = known_shape("smollm2-135m")
    for precision, fits in (("bfloat16", False), ("float32", True)):
        answer = estimate(small, EstimateRequest(setup=setup(precision=precision)))
        assert {item.gpu: item.fits for item in answer.hardware}["t4"] is fits
        asked = EstimateRequest(setup=setup(precision=precision), hardware=Hardware(gpu="t4"))
        assert estimate(small, asked).fits is fits


@pytest.mark.parametrize(("values", "message"), [
    ({"method": "prefix"}, "gradient checkpointing cannot"),
    ({"rank": 0}, "greater than or equal to 1"),
    ({"method": "lorra"}, "Input should be 'lora'"),
    ({"batch": 3}, "Extra inputs"),
])
def test_an_impossible_setup_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        setup(**values)


def test_rows_longer_than_the_context_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="sequences of 8192 tokens are longer than the model's 4096"):
        estimate(LLAMA, EstimateRequest(setup=setup(sequence_length=8192)))
