"""Measurements that were made before, in S3 by the content of everything that they depend on.

The base on a dataset, and production on its own held-out rows, are asked for again and again. A second attempt finds
what the first had finished. What is cached never goes stale, because its key names every input by digest.
"""

import hashlib
import json

from pydantic import BaseModel, ConfigDict, ValidationError

from services.evaluator.contract import JobFile, Target
from services.evaluator.job.metrics import RowScore
from shared.errors import NotFoundError
from shared.s3 import ArtifactStore
from shared.telemetry import get_logger

log = get_logger(__name__)

# Raise it when scoring changes, so that old and new numbers are never compared.
SCORING_VERSION = 3


class Cached(BaseModel):
    """The rows of one measurement."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    rows: list[RowScore]


def cache_key(job: JobFile, target: Target) -> str:
    """The S3 key of a measurement: by base (with its tokenizer and template), adapter, rows and rules."""
    dataset, adapter = job.dataset, None if target.subject == "base" else job.candidate
    if job.production is not None:
        dataset = job.production.dataset if target.on == "production_heldout" else dataset
        adapter = job.production.artifact if target.subject == "production" else adapter
    inputs = [
        SCORING_VERSION, job.base.digest, adapter.digest if adapter else None, dataset.artifact.digest,
        job.max_rows, job.max_new_tokens,
    ]
    return f"evaluations/cache/{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()}.json"


def load(store: ArtifactStore, key: str) -> list[RowScore] | None:
    """The rows measured before; None where there are none that can be read."""
    try:
        return Cached.model_validate_json(store.get_bytes(key)).rows
    except NotFoundError:
        return None
    except ValidationError as error:
        log.warning("a cached measurement cannot be read; measuring again", key=key, error=str(error))
        return None


def save(store: ArtifactStore, key: str, rows: list[RowScore]) -> None:
    """Keep the rows for the next time."""
    store.put_bytes(key, Cached(rows=rows).model_dump_json().encode(), content_type="application/json")
