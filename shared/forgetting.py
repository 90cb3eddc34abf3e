"""How a training keeps what was learned before it: the `forgetting` of a recipe."""

from typing import Annotated

from pydantic import Field

from shared.spec_part import SpecPart

PRODUCTION = "production"
MODEL_VERSION = "[a-z0-9][a-z0-9-]*@[1-9][0-9]*"
_DIGEST = "sha256:[0-9a-f]{64}"

StartFrom = Annotated[str, Field(
    pattern=rf"^({PRODUCTION}|{MODEL_VERSION}|{_DIGEST})$",
    examples=[PRODUCTION, "support-intents@3", "sha256:" + "0" * 64],
)]
Earlier = Annotated[str, Field(
    pattern=rf"^({PRODUCTION}|{_DIGEST}|s3://[a-z0-9][a-z0-9.-]+/.+/)$",
    examples=[PRODUCTION, "sha256:" + "0" * 64, "s3://tuneloop/references/general/"],
)]


class Replay(SpecPart):
    """Rows of the earlier task among the new ones (Robins, 1995, doi 10.1080/09540099550039318)."""

    share: float = Field(
        default=0.1, gt=0, lt=1,
        description="of the mix, not of the new rows; fewer where there are not as many. 0.1 costs a tenth more "
        "steps and kept two fifths of a task, 0.3 nine tenths (benchmarks/forgetting)",
    )


class Ewc(SpecPart):
    """Elastic weight consolidation (Kirkpatrick et al., arXiv 1612.00796): what the earlier task needs moves least."""

    strength: float = Field(
        default=1.0, gt=0,
        description="lambda; the penalty is lambda / 2 * sum of F * (weight - its start)^2. F is relative to its mean "
        "over all weights, and so lambda to no scale of gradients, which is tiny where the model is sure (arXiv "
        "1805.06370). 1 lies between 0.3, which cost the new task little, and 3, which kept two fifths of the earlier "
        "one (benchmarks/forgetting). Try three times more and less",
    )
    rows: int = Field(
        default=256, ge=1,
        description="of the earlier task, from whose gradients, row by row, F is estimated; a pass of its own for "
        "each, so that more take longer",
    )


class L2(SpecPart):
    """A pull of all trained weights to where they started (L2-SP, arXiv 1802.01483)."""

    strength: float = Field(
        default=0.1, gt=0,
        description="lambda; the penalty is lambda / 2 * sum of (weight - its start)^2. 0.1 cost the new task "
        "nothing (benchmarks/forgetting)",
    )


class GradualUnfreezing(SpecPart):
    """The top layers train first, the ones below join by and by (ULMFiT, arXiv 1801.06146)."""

    steps_per_stage: int = Field(ge=1, description="steps of the optimizer before the next layers join")
    layers_per_stage: int = Field(
        default=1, ge=1,
        description="layers that join at once; embeddings join last. 1, as in the paper",
    )


class Forgetting(SpecPart):
    """What keeps the model from forgetting; several work together. docs/training.md says when to take which."""

    earlier: Earlier = Field(
        default=PRODUCTION,
        description="the earlier task, for replay and ewc: the dataset version that production was trained on, or one "
        "by its digest or by its folder in S3",
    )
    replay: Replay | None = Field(default=None, description="absent: new rows alone")
    ewc: Ewc | None = Field(default=None, description="absent: no such penalty")
    l2: L2 | None = Field(default=None, description="absent: no such penalty")
    gradual_unfreezing: GradualUnfreezing | None = Field(default=None, description="absent: all layers from step 1")

    @property
    def needs_earlier(self) -> bool:
        """Whether rows of the earlier task are read."""
        return self.replay is not None or self.ewc is not None

    @property
    def penalises(self) -> bool:
        """Whether weights are held near their start."""
        return self.ewc is not None or self.l2 is not None
