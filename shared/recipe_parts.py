"""Parts of a recipe that have keys of their own: the adapter's shape, several tasks, a teacher, and when to stop."""

from typing import Literal

from pydantic import Field

from shared.spec_part import Slug, SpecPart


class LoraRecipe(SpecPart):
    """Low-rank adaptation (Hu et al., arXiv 2106.09685), for the methods lora, dora and qlora."""

    rank: int = Field(
        default=8, ge=1, le=256,
        description="of the update; the model server must allow it. 8 holds what a few thousand short answers have "
        "to teach (Schulman et al., LoRA Without Regret: two bits a weight). auto: the smallest from 8 to 64 that "
        "holds the run's own rows; with startFrom that adapter's",
    )
    alpha: int = Field(
        default=16, ge=1,
        description="the update is scaled by alpha / rank; twice the rank, as in arXiv 2405.09673. auto: that, and for "
        "ranks above 32 16 with rsLora",
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1,
        description="share of the adapter's inputs that is dropped; none, as few passes over the rows leave little "
        "to learn by heart",
    )
    target_modules: Literal["all-linear"] | list[str] = Field(
        default="all-linear",
        description="the layers that are adapted, by name; all learn more than those of attention alone (arXiv "
        "2405.09673)",
    )
    rs_lora: bool = Field(
        default=False,
        description="scale by alpha / sqrt(rank), so that large ranks learn more (arXiv 2312.03732); off, as small "
        "ranks gain nothing",
    )


class MultiTask(SpecPart):
    """Several tasks in one model; each row says which it is, as `task`."""

    temperature: float = Field(
        default=2.0, ge=1,
        description="a task of n rows gets a share of n^(1/temperature): 1 as they are, higher for more equal tasks; "
        "2 was the best for T5 (arXiv 1910.10683)",
    )


class Distillation(SpecPart):
    """A teacher whose distribution over tokens is learned beside the rows' own answers."""

    teacher: Slug = Field(description="its name under base-models/ in S3; its tokenizer must be the student's")
    adapter: str | None = Field(
        default=None, pattern=r"^s3://.+/$",
        description="S3 folder of an adapter of the teacher, as `tuneloop models get` shows it; absent: it has none",
    )
    alpha: float = Field(
        default=0.5, gt=0, le=1,
        description="weight of the teacher against the rows' own answers; 1 ignores those, and half of each is a start",
    )
    temperature: float = Field(
        default=2.0, gt=0, le=20,
        description="softens both distributions, so that the teacher's second best counts, too; 2 to 4 are usual",
    )


class EarlyStopping(SpecPart):
    """Stop when the validation loss has not improved for `patience` validations."""

    patience: int = Field(
        default=3, ge=1,
        description="validations without improvement before the run stops; one or two may be noise",
    )
    min_delta: float = Field(
        default=0.0, ge=0,
        description="a smaller improvement of the loss does not count, in nats; 0 counts each, as the best weights "
        "are kept anyway",
    )
