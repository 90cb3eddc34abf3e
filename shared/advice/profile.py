"""A use case: what somebody wants a model for, with what data, and for how much."""

from typing import Literal

import yaml
from pydantic import Field, ValidationError

from shared.errors import InvalidInputError
from shared.spec_part import SpecPart
from shared.strict_yaml import load_yaml

Updates = Literal["static", "monthly", "weekly", "daily"]
Complexity = Literal["simple", "moderate", "complex"]


class Prices(SpecPart):
    """What things cost you. Nothing is assumed where nothing is said."""

    gpu_hour_usd: float | None = Field(default=None, ge=0, description="an hour of the training hardware")
    input_usd_per_million: float | None = Field(default=None, ge=0, description="a million tokens that are read")
    output_usd_per_million: float | None = Field(default=None, ge=0, description="a million tokens that are written")


class Traffic(SpecPart):
    """How much is asked, and how long prompts are in each approach."""

    requests_per_month: int = Field(ge=0, description="expected")
    request_tokens: int = Field(default=200, ge=1, description="the user's own text")
    instruction_tokens: int = Field(default=300, ge=0, description="what tells a bare model what to do")
    example_tokens: int = Field(default=800, ge=0, description="of the examples in a few-shot prompt")
    retrieved_tokens: int = Field(default=1500, ge=0, description="of the passages that retrieval puts in")
    answer_tokens: int = Field(default=150, ge=1, description="of an answer")


class UseCase(SpecPart):
    """What the advice follows from. Keys are camelCase; what is left out is not known, and is not guessed."""

    name: str = Field(default="use case", description="for the report")
    examples: int = Field(default=0, ge=0, description="prompts with the right answer that you have")
    documents: int = Field(default=0, ge=0, description="documents that hold the knowledge that answers need")
    complexity: Complexity = Field(
        default="moderate",
        description="simple: classify, extract; moderate: summarise, answer; complex: code, reasoning",
    )
    needs_knowledge: bool = Field(default=False, description="answers need facts that the base model has not")
    knowledge_updates: Updates = Field(default="static", description="how often those facts change")
    needs_citations: bool = Field(default=False, description="answers must say where they come from")
    needs_format: bool = Field(default=False, description="answers must have one format")
    needs_tone: bool = Field(default=False, description="answers must have one tone")
    prompting_score: float | None = Field(
        default=None, ge=0, le=1, description="what the best prompt reached on your test rows; None if nobody tried"
    )
    target_score: float = Field(default=0.9, gt=0, le=1, description="what is good enough, on the same rows")
    latency_ms: float | None = Field(default=None, gt=0, description="the longest acceptable time to an answer")
    retrieval_ms: float = Field(default=100, ge=0, description="what looking passages up takes in your system")
    budget_monthly_usd: float | None = Field(default=None, ge=0, description="for training and answering")
    retrains_per_month: float = Field(default=1.0, ge=0, description="how often you would train again")
    traffic: Traffic | None = Field(default=None, description="absent: no cost of answers is reckoned")
    prices: Prices = Field(default_factory=Prices, description="what things cost you")


def parse_use_case(text: str, *, source: str = "profile") -> UseCase:
    """The use case in a YAML document.

    Raises:
        InvalidInputError: naming every key that is wrong.
    """
    try:
        document = load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInputError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInputError(f"{source}: expected a mapping with the keys of docs/advisor.md")
    try:
        return UseCase.model_validate(document)
    except ValidationError as error:
        raise InvalidInputError(f"{source}: {problems(error)}") from error


def problems(error: ValidationError) -> str:
    """Every wrong key with what is wrong, in one line."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: "
        + ("unknown key" if item["type"] == "extra_forbidden" else str(item["msg"]).removeprefix("Value error, "))
        for item in error.errors()
    )
