"""Keys that have no effect, merges that cannot be, and servers that cannot serve are refused with the remedy."""

from typing import Any

import pytest

from shared.errors import InvalidInputError
from shared.pipeline import parse_pipeline
from shared.recipe import TrainingRecipe
from shared.recipe_checks import recipe_problems, serving_problems


def problems(**recipe: Any) -> dict[str, str]:
    return dict(recipe_problems(TrainingRecipe.model_validate(recipe)))


@pytest.mark.parametrize("recipe", [
    {}, {"method": "qlora", "doubleQuantization": False}, {"method": "dora", "lora": {"rank": 4}, "merge": True},
    {"method": "ia3", "merge": True}, {"method": "prefix", "virtualTokens": 3}, {"method": "prompt"},
    {"method": "adapter", "bottleneck": 8}, {"method": "full"}, {"objective": "pretrain", "method": "full"},
    {"objective": "distill", "distillation": {"teacher": "a"}, "multiTask": {}},
    {"objective": "reward", "method": "ia3"}, {"learningRate": "auto", "rangeTest": {}},
    # As the registry stores it, and `tuneloop pipelines get` shows it: with all defaults filled in.
    TrainingRecipe(method="ia3").model_dump(by_alias=True),
])
def test_what_fits_together_passes(recipe: dict[str, Any]) -> None:
    assert problems(**recipe) == {}


@pytest.mark.parametrize(("recipe", "key", "remedy"), [
    ({"method": "prefix", "packing": "bfd"}, "packing", "rows of prefix cannot share a sequence; write auto"),
    ({"objective": "kto", "packing": "padding_free"}, "packing", "rows of kto cannot share a sequence"),
    ({"method": "ia3", "lora": {"rank": 4}}, "lora", "train with dora or lora or qlora"),
    ({"method": "lora", "virtualTokens": 4}, "virtualTokens", "train with prefix or prompt"),
    ({"method": "full", "bottleneck": 4}, "bottleneck", "train with adapter"),
    ({"doubleQuantization": False}, "doubleQuantization", "train with qlora"),
    ({"method": "prefix", "merge": True}, "merge", "cannot hold; remove it, or train with"),
    ({"method": "full", "merge": True}, "merge", "a whole model already"),
    ({"beta": 0.2}, "beta", "train with dpo or kto"),
    ({"objective": "dpo", "method": "prompt"}, "objective", "another method than prefix and prompt"),
    ({"objective": "kto", "batchSize": 1}, "batchSize", "at least 2"),
    ({"objective": "pretrain", "method": "prefix"}, "objective", "hold no texts; pretrain with lora"),
    ({"objective": "pretrain", "beta": 0.2}, "beta", "objective: pretrain; remove it"),
    ({"objective": "reward", "method": "adapter"}, "method", "train with dora, full, ia3, lora, qlora"),
    ({"objective": "reward", "merge": True}, "merge", "remove it"),
    ({"objective": "reward", "beta": 0.2}, "beta", "train with dpo or kto"),
    ({"objective": "dpo", "multiTask": {}}, "multiTask", "train with sft"),
    ({"objective": "distill"}, "distillation", "distillation: {teacher: NAME}"),
    ({"distillation": {"teacher": "a"}}, "distillation", "write objective: distill"),
    ({"objective": "distill", "distillation": {"teacher": "a"}, "method": "prompt"}, "objective", "another method"),
    ({"lora": {"targetModules": []}}, "lora.targetModules", "all-linear"),
    ({"learningRate": "auto", "rangeTest": {}, "objective": "dpo"}, "rangeTest", "train with sft, distill"),
    ({"learningRate": "auto", "rangeTest": {}, "objective": "grpo"}, "rangeTest", "train with sft, distill"),
    ({"rangeTest": {}}, "rangeTest", "write learningRate: auto"),
])
def test_what_does_not_is_named_with_its_remedy(recipe: dict[str, Any], key: str, remedy: str) -> None:
    assert remedy in problems(**recipe)[key]


def test_a_pipeline_with_a_key_that_does_nothing_is_refused_at_the_door() -> None:
    text = """
apiVersion: tuneloop.dev/v1
kind: Pipeline
metadata: {name: a}
spec: {baseModel: tiny, training: {method: prompt, lora: {rank: 4}}}
"""
    with pytest.raises(InvalidInputError, match=r"spec.training.lora: has no effect with method: prompt"):
        parse_pipeline(text)


@pytest.mark.parametrize(("training", "said"), [
    ("{learningrate: 1}", "spec.training.learningrate: unknown key; see docs/pipeline.md"),
    ("{lora: {rank: 0}}", "spec.training.lora.rank: Input should be greater than or equal to 1"),
    ("{lora: {targetModules: q_proj}}", "spec.training.lora.targetModules.* Input should be 'all-linear'"),
    ("{objective: chat}", "spec.training.objective: Input should be 'sft', 'dpo', "),
    ("{limits: {time: soon}}", "spec.training.limits.time: 'soon' is not a duration; write a number and a unit"),
    ("{priority: 101}", "spec.training.priority: Input should be less than or equal to 100"),
])
def test_a_bad_spec_is_refused_at_the_door_with_the_key_and_what_it_should_be(training: str, said: str) -> None:
    head = "apiVersion: tuneloop.dev/v1\nkind: Pipeline\nmetadata: {name: a}\n"
    text = head + f"spec: {{baseModel: tiny, training: {training}}}"
    with pytest.raises(InvalidInputError, match=said):
        parse_pipeline(text)


def test_texts_need_gates_that_measure_texts() -> None:
    text = """
apiVersion: tuneloop.dev/v1
kind: Pipeline
metadata: {name: a}
spec: {baseModel: tiny, training: {objective: pretrain}%s}
"""
    with pytest.raises(InvalidInputError, match=r"spec.evaluation.gates.0.metric: .*\[{metric: bits_per_byte, versus"):
        parse_pipeline(text % "")
    gates = ", evaluation: {gates: [{metric: bits_per_byte, versus: base, maxDelta: 0}, {metric: perplexity, max: 9}]}"
    assert parse_pipeline(text % gates).spec.training.objective == "pretrain"


@pytest.mark.parametrize(("objective", "gate", "remedy"), [
    ("sft", "metric: pairwise_accuracy, min: 0.6", "take exact_match or perplexity"),
    ("sft", "metric: reward, min: 0", "take exact_match, or name one"),
    ("rloo, reward: {exactMatch: true}", "metric: reward, min: 0", "names none"),
    ("reward", "metric: reward, min: 0", "pairwise_accuracy, min: 0.6"),
    ("reward", "metric: exact_match, min: 0.6", "pairwise_accuracy, min: 0.6"),
    ("reward", "metric: pairwise_accuracy, minDelta: 0, versus: production", "never in production"),
])
def test_gates_are_about_what_the_result_can_do(objective: str, gate: str, remedy: str) -> None:
    text = f"""
apiVersion: tuneloop.dev/v1
kind: Pipeline
metadata: {{name: a}}
spec: {{baseModel: tiny, training: {{objective: {objective}}}, evaluation: {{gates: [{{{gate}}}]}}}}
"""
    with pytest.raises(InvalidInputError, match=f"spec.evaluation.gates.0: .*{remedy}"):
        parse_pipeline(text)


def test_a_gate_on_a_task_needs_tasks() -> None:
    text = """
apiVersion: tuneloop.dev/v1
kind: Pipeline
metadata: {name: a}
spec: {baseModel: tiny, training: {%s}, evaluation: {gates: [{metric: exact_match, task: sums, min: 0.5}]}}
"""
    with pytest.raises(InvalidInputError, match=r"spec.evaluation.gates.0.task: rows have no tasks; .*multiTask"):
        parse_pipeline(text % "")
    (gate,) = parse_pipeline(text % "multiTask: {temperature: 3}").spec.evaluation.gates
    assert gate.measured == "exact_match/sums"


@pytest.mark.parametrize(("recipe", "servers"), [
    ({}, {"vllm", "small"}), ({"method": "qlora"}, {"vllm", "small"}), ({"method": "dora"}, {"small"}),
    ({"method": "prefix"}, {"small"}), ({"method": "adapter"}, {"small"}),
    # A whole model is nobody's adapter; a warning says so, and the pipeline may still train and evaluate it.
    ({"method": "ia3", "objective": "reward"}, {"vllm", "small"}),
    ({"method": "ia3", "merge": True}, {"vllm", "small"}), ({"method": "full"}, {"vllm", "small"}),
])
def test_a_method_is_refused_where_its_adapters_could_not_be_served(recipe: dict[str, Any], servers: set[str]) -> None:
    parsed = TrainingRecipe.model_validate(recipe)
    assert {name for name in ("vllm", "small") if not list(serving_problems(parsed, name))} == servers


@pytest.mark.parametrize(("method", "remedy"), [("ia3", "set merge: true"), ("prompt", "small engine")])
def test_the_refusal_says_what_to_do(method: str, remedy: str) -> None:
    ((key, problem),) = serving_problems(TrainingRecipe.model_validate({"method": method}), "vllm")
    assert key == "method"
    assert remedy in problem
    assert ("merge" in problem) == (method == "ia3")


def test_auto_is_the_paged_optimizer_where_memory_is_short() -> None:
    qlora, lora = TrainingRecipe(method="qlora"), TrainingRecipe()
    assert (qlora.optimizer_on(gpu=True), qlora.optimizer_on(gpu=False)) == ("paged_adamw_8bit", "adamw")
    assert lora.optimizer_on(gpu=True) == "adamw"
    assert TrainingRecipe(optimizer="sgd").optimizer_on(gpu=True) == "sgd"
