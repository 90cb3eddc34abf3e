"""The learning-rate range test of a recipe."""

from pydantic import Field

from shared.spec_part import SpecPart


class RangeTest(SpecPart):
    """A learning-rate range test (Smith, arXiv 1506.01186) before the run, which then begins as if it had not been."""

    steps: int = Field(
        default=50, ge=20, le=1000,
        description="whose rates rise over four orders of magnitude; 50 tell rates apart that differ by a fifth, and "
        "take as long as 50 steps of the run",
    )
