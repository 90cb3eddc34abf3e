"""`spec.triggers` of a pipeline."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field

from shared.spec_part import Duration, SpecPart


def _cron(value: object) -> object:
    if not isinstance(value, str):
        return value
    if len(value.split()) != 5:
        raise ValueError(f"{value!r} does not have five fields: minute, hour, day of month, month, day of week")
    try:
        next(CronSim(value, datetime(2026, 1, 1, tzinfo=UTC)))
    except StopIteration as error:
        raise ValueError(f"{value!r} names a day that never comes") from error
    except CronSimError as error:
        raise ValueError(f"{value!r} is not a cron expression: {error}; 0 3 * * * is every day at 03:00 UTC") from error
    return value


DriftFeature = Literal[
    "prompt_length", "words", "ngrams", "language", "topic", "embeddings", "answer_length", "refusals", "surprisal"
]


class OnDrift(SpecPart):
    """What follows when live traffic no longer looks like the dataset and the evaluation; docs/drift.md.

    It needs `spec.capture`. Nothing is ever rolled back for drift: it is no proof of harm.
    """

    action: Literal["reevaluate", "retrain", "notify"] = Field(
        default="notify",
        description="measure production on the newest held-out rows, train on the newest dataset, or only say it",
    )
    features: list[DriftFeature] | None = Field(
        default=None, min_length=1, description="only these can raise an alarm; all are measured"
    )
    cooldown: Duration = Field(
        default=timedelta(days=1), description="no second alarm of a model version within this time"
    )
    window_samples: int = Field(
        default=200, ge=50, le=2000, description="samples that are compared with the reference at once"
    )
    average_run: int = Field(
        default=1000, ge=10, le=1_000_000,
        description="without drift, at least this many windows pass between two alarms, on average",
    )


class ReevaluateOn(SpecPart):
    """Measuring what is in production again and again."""

    cron: Annotated[str, BeforeValidator(_cron)] = Field(
        description="five fields in UTC, such as 0 3 * * *; ticks that were missed are made up for once"
    )


class Triggers(SpecPart):
    """What starts a training run or an evaluation by itself."""

    on_dataset: bool = Field(default=True, description="train when a dataset of this pipeline was prepared")
    on_drift: OnDrift = Field(default_factory=OnDrift, description="what follows when drift was detected")
    reevaluate: ReevaluateOn | None = Field(default=None, description="absent: production is not measured again")
