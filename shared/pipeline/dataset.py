"""`spec.dataset` of a pipeline."""

from pydantic import Field

from shared.spec_part import SpecPart


class DatasetRules(SpecPart):
    """What a row must look like, and how rows are split.

    The split is by a hash of the row's prompt, so a prompt never moves between splits when rows are added, and
    what production was tested on is never trained on by its successor.
    """

    max_row_bytes: int = Field(default=1_000_000, gt=0, description="longer rows are refused")
    min_rows: int = Field(default=20, ge=3, description="fewer good rows than this reject the dataset")
    max_rejected_share: float = Field(default=0.1, ge=0, le=1, description="more bad rows than this reject the dataset")
    validation_share: float = Field(default=0.1, gt=0, lt=0.5, description="of the prompts, for early stopping")
    test_share: float = Field(default=0.2, gt=0, lt=0.5, description="of the prompts, held out for the evaluation")
    split_salt: str = Field(
        default="tuneloop", description="another salt draws another split, which breaks comparability"
    )
