"""What a training run may take at most. Its job is then stopped with a checkpoint, and the run has failed."""

from pydantic import Field

from shared.spec_part import Duration, SpecPart


class Limits(SpecPart):
    """What all attempts of a run may take together, without the time that they wait."""

    time: Duration | None = Field(default=None, description="of its jobs at work; absent: no limit")
    cost: float | None = Field(
        default=None, gt=0, description="in the currency of TUNELOOP_HOURLY_PRICES: hours, times GPUs, times the price "
        "of their hardware class; absent: no limit",
    )
