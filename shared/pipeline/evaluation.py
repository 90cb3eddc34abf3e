"""`spec.evaluation` of a pipeline."""

from typing import Literal

from pydantic import Field, model_validator

from shared.resources import Resources
from shared.spec_part import SpecPart


class Gate(SpecPart):
    """A condition that the candidate must meet before it is registered.

    Give `min` or `max` for an absolute bound; `minDelta` or `maxDelta` for candidate minus `versus`, both on `on`.
    A gate against production passes with a note while nothing is in production.
    """

    metric: Literal["exact_match", "perplexity", "bits_per_byte", "pairwise_accuracy", "reward"] = Field(
        description="exact_match is the share of answers that are right to the letter; perplexity, per token, and "
        "bits_per_byte, which other tokenizers can be compared by, are lower for better; pairwise_accuracy, of reward "
        "models, is the share of pairs in which the better answer has the higher score; reward is the mean score of "
        "answers by the reward model that training.reward names"
    )
    task: str | None = Field(
        default=None, description="with training.multiTask: only this task's rows; absent: all rows"
    )
    on: Literal["heldout", "production_heldout"] = Field(
        default="heldout",
        description="the held-out rows of the candidate's own dataset, or of the one that production was trained on",
    )
    versus: Literal["base", "production"] | None = Field(
        default=None, description="for minDelta and maxDelta: the model that the candidate is compared with"
    )
    min: float | None = Field(default=None, description="the candidate's metric is at least this")
    max: float | None = Field(default=None, description="the candidate's metric is at most this")
    min_delta: float | None = Field(default=None, description="candidate minus `versus` is at least this")
    max_delta: float | None = Field(default=None, description="candidate minus `versus` is at most this")

    @model_validator(mode="after")
    def _one_bound(self) -> "Gate":
        absolute = [bound for bound in (self.min, self.max) if bound is not None]
        relative = [bound for bound in (self.min_delta, self.max_delta) if bound is not None]
        if len(absolute) + len(relative) != 1:
            raise ValueError("give exactly one of min, max, minDelta, maxDelta")
        if relative and self.versus is None:
            raise ValueError("minDelta and maxDelta compare: add versus: base or versus: production")
        if absolute and self.versus is not None:
            raise ValueError("min and max are absolute bounds: remove versus, or use minDelta or maxDelta")
        return self

    @property
    def measured(self) -> str:
        """The metric's name among those of a measurement."""
        return self.metric if self.task is None else f"{self.metric}/{self.task}"


class EvaluationRules(SpecPart):
    """What is measured on the held-out split, and what must hold."""

    max_new_tokens: int = Field(default=16, ge=1, description="the longest answer, in tokens")
    max_rows: int = Field(default=200, ge=1, description="at most this many held-out rows are used, chosen by hash")
    batch_size: int = Field(default=16, ge=1, description="rows at once on the device")
    gates: list[Gate] = Field(
        default_factory=lambda: [Gate(metric="exact_match", min=0.5)], min_length=1,
        description="all of them must hold",
    )
    max_attempts: int = Field(default=3, ge=1, le=20, description="launches of the job before it has failed")
    resources: Resources = Field(default_factory=Resources, description="what the job asks for")
