"""The trainer's decisions: what a run is called, and what is worth telling. Pure."""

from datetime import datetime, timedelta

from services.trainer.files import Progress
from shared.events import Digest

_DIGEST_CHARACTERS = 12


def run_id_of(pipeline: str, pipeline_version: int, dataset_digest: Digest) -> str:
    """The id of the run of this dataset under this version of the pipeline; the same for the same work."""
    return f"{pipeline}-v{pipeline_version}-{dataset_digest.removeprefix('sha256:')[:_DIGEST_CHARACTERS]}"


def worth_telling(
    new: Progress, old: Progress | None, *, now: datetime, told_at: datetime | None, every: timedelta
) -> bool:
    """Whether progress becomes an event: it changed, and the last one is some time ago."""
    return new != old and (told_at is None or now - told_at >= every)
