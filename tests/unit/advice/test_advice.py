"""Which approach a use case gets and why, the recipe with its reasons, and the money."""

from pathlib import Path
from typing import Any

import pytest

from shared.advice import AdviceRequest, UseCase, advise, parse_use_case
from shared.advice.recipe import Data, recipe_for
from shared.advice.samples import samples_needed
from shared.errors import InvalidInputError
from shared.estimate import Hardware, known_shape
from shared.recipe import TrainingRecipe

PRICES = {"input_usd_per_million": 1.0, "output_usd_per_million": 2.0}
TRAFFIC = {"requests_per_month": 1000}
KNOWING = {"needs_knowledge": True, "knowledge_updates": "weekly"}
SHAPED = {"needs_format": True, "examples": 3000}


def approach(**values: Any) -> str:
    return advise(AdviceRequest(use_case=UseCase.model_validate(values)), None).approach


@pytest.mark.parametrize(("values", "expected"), [
    # The five cases that everybody asks about.
    ({**KNOWING, **SHAPED, "needs_tone": True}, "hybrid"),
    ({"examples": 50_000, "complexity": "complex", "needs_format": True}, "fine_tuning"),
    ({"documents": 500, "needs_knowledge": True, "knowledge_updates": "daily"}, "rag"),
    ({"examples": 5_000, "complexity": "simple"}, "fine_tuning"),
    ({}, "prompting"),
    # What must be cited is looked up, however static it is and however many examples there are.
    ({"needs_knowledge": True, "needs_citations": True, "examples": 20_000}, "rag"),
    ({"needs_knowledge": True, "examples": 20_000}, "rag"),
    # Too few examples: neither format nor complexity can be trained.
    ({"needs_format": True, "examples": 50}, "prompting"),
    ({**KNOWING, "needs_format": True, "examples": 50}, "rag"),
    # What was measured decides.
    ({"needs_format": True, "examples": 5_000, "prompting_score": 0.95}, "prompting"),
    ({**KNOWING, **SHAPED, "prompting_score": 0.95}, "rag"),
    ({"examples": 300, "prompting_score": 0.5}, "fine_tuning"),
])
def test_a_use_case_gets_an_approach(values: dict[str, Any], expected: str) -> None:
    assert approach(**values) == expected


def test_patience_speaks_for_nothing() -> None:
    for values in ({}, KNOWING, SHAPED, {**KNOWING, **SHAPED}):
        assert approach(**values, latency_ms=60_000) == approach(**values)


def test_no_time_for_retrieval_puts_static_knowledge_into_the_weights() -> None:
    case: dict[str, Any] = {"needs_knowledge": True, **SHAPED, "retrieval_ms": 200}
    assert approach(**case, latency_ms=1000) == "hybrid"
    assert approach(**case, latency_ms=150) == "fine_tuning"
    fresh = advise(AdviceRequest(use_case=UseCase.model_validate({**case, **KNOWING, "latency_ms": 150})), None)
    assert fresh.approach == "hybrid"
    assert any("no approach fits" in reason.follows for reason in fresh.reasons)


def test_the_budget_is_heeded() -> None:
    """1,000 requests: 1,300 tokens with examples and 200 without cost 1.30 and 0.20 USD to read, 0.30 to answer."""
    case = {**SHAPED, "traffic": TRAFFIC, "prices": {**PRICES, "gpu_hour_usd": 10.0}}
    small = AdviceRequest(
        use_case=UseCase.model_validate({**case, "budget_monthly_usd": 100}), hardware=Hardware(gpu="l4"),
    )
    shape = known_shape("smollm2-135m")
    rich = advise(small, shape)
    costs = {item.approach: item for item in rich.costs}
    assert costs["prompting"].usd == pytest.approx(1000 * (1300 * 1.0 + 150 * 2.0) / 1e6)
    assert costs["fine_tuning"].answering_usd == pytest.approx(1000 * (200 * 1.0 + 150 * 2.0) / 1e6)
    assert rich.approach == "fine_tuning"
    assert rich.estimate is not None
    assert rich.estimate.time is not None
    assert costs["fine_tuning"].training_usd == pytest.approx(10 * rich.estimate.time.gpu_hours)
    often = UseCase.model_validate({**case, "budget_monthly_usd": 5, "retrains_per_month": 1000})
    poor = advise(small.model_copy(update={"use_case": often}), shape)
    assert poor.approach == "prompting"
    assert any("more than 5 a month" in reason.finding for reason in poor.reasons)
    none = advise(small.model_copy(update={"use_case": often.model_copy(update={"budget_monthly_usd": 0.01})}), shape)
    assert none.approach == "fine_tuning"
    assert any("no approach that meets the needs" in reason.follows for reason in none.reasons)


def test_a_budget_without_prices_is_not_judged() -> None:
    answer = advise(AdviceRequest(use_case=UseCase.model_validate({**SHAPED, "budget_monthly_usd": 1})), None)
    assert answer.approach == "fine_tuning"
    last = answer.reasons[-1]
    assert last.follows.startswith("not judged: say traffic.requestsPerMonth; ")
    assert all(item.usd is None for item in answer.costs)


def test_every_reason_names_a_source() -> None:
    request = AdviceRequest(use_case=UseCase.model_validate({**KNOWING, **SHAPED}), hardware=Hardware(gpu="l4"))
    answer = advise(request, known_shape("llama-3.1-8b"))
    assert answer.recipe is not None
    named = [reason.source for reason in answer.reasons] + [value.source for value in answer.recipe.values]
    assert all(source.title and source.where for source in named)


def test_examples_needed_grow_with_the_task_and_shrink_with_the_model() -> None:
    assert samples_needed("simple", None).recommended == 1000
    assert samples_needed("complex", 135_000_000).recommended == 10_000
    assert samples_needed("moderate", 70 * 10**9).recommended == 1250
    assert samples_needed("simple", 70 * 10**9).minimum == 100


def recipe(model: str, rows: int = 1000, gpu: str | None = "h100", **data: Any) -> Any:
    return recipe_for(known_shape(model), Data(rows=rows, **data), Hardware(gpu=gpu))


def test_the_method_is_the_first_that_fits() -> None:
    assert recipe("qwen2.5-7b", gpu="h100").setup.method == "lora"
    assert recipe("qwen2.5-7b", gpu="rtx-4090").setup.method == "lora", "a frozen base takes two bytes a weight"
    small = recipe("qwen2.5-14b", gpu="rtx-4090")
    assert small.setup.method == "qlora"
    assert (small.training["method"], small.training["optimizer"]) == ("qlora", "paged_adamw_8bit")
    big = recipe("llama-3.1-70b", gpu="l4")
    assert (big.fits, big.setup.method) == (False, "qlora")
    assert recipe("qwen2.5-7b", gpu=None).fits is None


def test_batches_fill_the_memory_and_keep_the_step() -> None:
    for gpu in ("l4", "a100-80gb"):
        found = recipe("llama-3.1-8b", gpu=gpu, longest_row=2048)
        assert found.setup.micro_batch * found.setup.gradient_accumulation == 16
    assert recipe("llama-3.1-8b", gpu="a100-80gb", longest_row=2048).setup.micro_batch > \
        recipe("llama-3.1-8b", gpu="l4", longest_row=2048).setup.micro_batch


def test_the_learning_rate_falls_with_size_and_rises_in_short_runs() -> None:
    assert recipe("qwen2.5-32b", 20_000).value("learningRate") == 1e-4
    assert recipe("llama-2-13b", 20_000).value("learningRate") == 2e-4
    assert recipe("smollm2-135m", 20_000).value("learningRate") == 1e-3
    assert recipe("llama-3.1-8b", 100).value("learningRate") == pytest.approx(3e-4)


def test_the_rank_holds_what_the_answers_say() -> None:
    """SmolLM2's adapter of rank 8 has 2.4 M weights, which hold 4.9 M bits."""
    assert recipe("smollm2-135m", 1000, answer_tokens=50).value("lora.rank") == 8
    assert recipe("smollm2-135m", 100_000, answer_tokens=100).value("lora.rank") == 32
    large = recipe("smollm2-135m", 1_000_000, answer_tokens=400)
    assert (large.value("lora.rank"), large.value("lora.alpha"), large.value("lora.rsLora")) == (256, 16, True)
    assert "full training" in next(v.why for v in large.values if v.field == "lora.rank")


def test_repeated_rows_are_few_passes() -> None:
    assert [recipe("llama-3.2-1b", rows).epochs for rows in (500, 10_000, 200_000)] == [3, 2, 1]
    assert recipe("llama-3.2-1b", 16).steps == 3


def test_the_recipe_is_one_that_the_trainer_takes() -> None:
    found = recipe("smollm2-135m")
    assert found.training is not None
    spec = TrainingRecipe.model_validate(found.training)
    assert (spec.lora.rank, spec.learning_rate, spec.batch_size) == (
        found.value("lora.rank"), found.value("learningRate"), found.value("batchSize"))


def test_the_page_shows_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs" / "advisor.md").read_text()
    shown = page.split("```yaml\n", 1)[1].split("```", 1)[0]
    case = parse_use_case(shown)
    assert case.model_fields_set == set(UseCase.model_fields)
    assert case.traffic is not None
    assert case.traffic.model_fields_set == set(type(case.traffic).model_fields)
    assert case.prices.model_fields_set == set(type(case.prices).model_fields)


def test_a_profile_is_read_and_a_wrong_one_says_where() -> None:
    case = parse_use_case("{name: bot, examples: 30, needsKnowledge: true, traffic: {requestsPerMonth: 5}}")
    assert (case.examples, case.needs_knowledge) == (30, True)
    for text, message in (
        ("exmples: 3", "profile: exmples: unknown key"),
        ("complexity: hard", "profile: complexity: Input should be 'simple', 'moderate' or 'complex'"),
        ("- a", "profile: expected a mapping"),
        ("a: [", "profile: not valid YAML"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            parse_use_case(text)
