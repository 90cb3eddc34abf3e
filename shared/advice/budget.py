"""What each approach costs a month, from the figures that were given. Pure; nothing is assumed where one is missing."""

from typing import Literal

from pydantic import BaseModel, Field

from shared.advice.profile import UseCase

Approach = Literal["prompting", "rag", "fine_tuning", "hybrid"]
_MILLION = 1_000_000


class Costs(BaseModel):
    """Of one approach, in USD a month.

    Attributes:
        usd: None where something is not known; `unknown` says what.
        input_tokens: of one request.
    """

    approach: Approach
    usd: float | None
    training_usd: float | None = None
    answering_usd: float | None = None
    input_tokens: int | None = None
    unknown: list[str] = Field(default_factory=list)


def monthly_costs(case: UseCase, training_gpu_hours: float | None) -> list[Costs]:
    """Prompting, retrieval, fine-tuning and a hybrid: training again, and answering with the prompts that each needs.

    A fine-tuned model needs no examples in its prompt and no long instruction; retrieval adds its passages.
    """
    traffic = case.traffic
    lengths: dict[Approach, int | None] = {"prompting": None, "rag": None, "fine_tuning": None, "hybrid": None}
    if traffic is not None:
        own = traffic.request_tokens
        lengths = {
            "prompting": own + traffic.instruction_tokens + traffic.example_tokens,
            "rag": own + traffic.instruction_tokens + traffic.retrieved_tokens,
            "fine_tuning": own, "hybrid": own + traffic.retrieved_tokens,
        }
    return [
        _costs(case, approach, tokens, training_gpu_hours if approach in ("fine_tuning", "hybrid") else 0.0)
        for approach, tokens in lengths.items()
    ]


def _costs(case: UseCase, approach: Approach, tokens: int | None, hours: float | None) -> Costs:
    answering, unknown = _answering(case, tokens)
    training: float | None = 0.0
    if hours != 0.0:
        price = case.prices.gpu_hour_usd
        training = None if hours is None or price is None else hours * price * case.retrains_per_month
        unknown = unknown + (["the model, the rows and the hardware"] if hours is None else []) + \
            (["prices.gpuHourUsd"] if price is None else [])
    total = None if training is None or answering is None else training + answering
    return Costs(approach=approach, usd=total, training_usd=training, answering_usd=answering, input_tokens=tokens,
                 unknown=unknown)


def _answering(case: UseCase, tokens: int | None) -> tuple[float | None, list[str]]:
    traffic, prices = case.traffic, case.prices
    if traffic is None or tokens is None:
        return None, ["traffic.requestsPerMonth"]
    missing = [name for name, price in (("prices.inputUsdPerMillion", prices.input_usd_per_million),
                                        ("prices.outputUsdPerMillion", prices.output_usd_per_million)) if price is None]
    if prices.input_usd_per_million is None or prices.output_usd_per_million is None:
        return None, missing
    each = tokens * prices.input_usd_per_million + traffic.answer_tokens * prices.output_usd_per_million
    return traffic.requests_per_month * each / _MILLION, []
