"""From a use case, a model and hardware to advice. Pure."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.advice.approach import Reason, choose
from shared.advice.budget import Approach, Costs
from shared.advice.profile import UseCase
from shared.advice.recipe import Data, Recipe, recipe_for
from shared.advice.samples import samples_needed
from shared.estimate import EstimateAnswer, EstimateRequest, Hardware, ModelShape, Rows, estimate


class AdviceRequest(BaseModel):
    """A question. Without `model` or `config` there is advice on the approach, and none on the recipe."""

    model_config = ConfigDict(extra="forbid")

    use_case: UseCase = Field(default_factory=UseCase)
    model: str | None = None
    config: dict[str, Any] | None = None
    data: Data | None = Field(default=None, description="absent: the use case's examples, with middling lengths")
    hardware: Hardware = Field(default_factory=Hardware)


class Advice(BaseModel):
    """The answer.

    Attributes:
        examples_minimum: fewer are not worth a training.
        recipe: None without a model or without any example.
        estimate: of the recipe.
    """

    approach: Approach
    reasons: list[Reason]
    costs: list[Costs]
    examples_minimum: int
    examples_recommended: int
    recipe: Recipe | None = None
    estimate: EstimateAnswer | None = None


def advise(request: AdviceRequest, shape: ModelShape | None) -> Advice:
    """Approach, recipe, estimate and costs.

    Args:
        shape: of the model that the request names; None where it names none.
    """
    case = request.use_case
    samples = samples_needed(case.complexity, shape.parameters if shape else None)
    data = request.data or (Data(rows=case.examples) if case.examples else None)
    recipe = recipe_for(shape, data, request.hardware) if shape and data else None
    reckoned = _reckoned(shape, recipe, data, request.hardware) if shape and recipe and data else None
    hours = reckoned.time.gpu_hours if reckoned and reckoned.time else None
    choice = choose(case, samples, hours)
    return Advice(
        approach=choice.approach, reasons=choice.reasons, costs=choice.costs, examples_minimum=samples.minimum,
        examples_recommended=samples.recommended, recipe=recipe, estimate=reckoned,
    )


def _reckoned(shape: ModelShape, recipe: Recipe, data: Data, hardware: Hardware) -> EstimateAnswer:
    rows = Rows(rows=data.rows, tokens_per_row=data.tokens_per_row, epochs=recipe.epochs)
    return estimate(shape, EstimateRequest(setup=recipe.setup, hardware=hardware, data=rows))
