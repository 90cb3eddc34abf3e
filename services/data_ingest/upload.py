"""Taking an upload: the body goes to S3 as it comes; then the dataset exists, and that is told."""

import secrets
import threading
from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from services.data_ingest import metrics
from services.data_ingest.decide import unknown_format
from services.data_ingest.models import PENDING, Dataset, KnownPipeline
from services.data_ingest.settings import DataIngestSettings
from shared.db import reading, transaction
from shared.errors import InvalidInputError, NotFoundError
from shared.events import DatasetPublished
from shared.messaging import emit
from shared.service import Runtime
from shared.telemetry import current_traceparent, get_logger

log = get_logger(__name__)

MAX_NAME_CHARACTERS = 200
_LOOK_SECONDS = 0.1


class Uploaded(BaseModel):
    """An accepted upload. What becomes of it is told at ``/v1/datasets/{dataset_id}``."""

    dataset_id: str
    uri: str
    sha256: str
    bytes: int


def check_parameters(settings: DataIngestSettings, format_: str, name: str, content_length: str | None) -> None:
    """Refuse, before a byte is read, what could not be accepted afterwards."""
    problem = unknown_format(format_)
    if problem is not None:
        raise InvalidInputError(problem)
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidInputError(f"the name has {len(name)} characters; at most {MAX_NAME_CHARACTERS} are allowed")
    if content_length is not None and content_length.isdecimal() and int(content_length) > settings.max_upload_bytes:
        raise InvalidInputError(
            f"the upload has {content_length} bytes, more than the allowed {settings.max_upload_bytes}; "
            "split it into several datasets"
        )


def wait_for_pipeline(runtime: Runtime[DataIngestSettings], name: str) -> None:
    """Return once the pipeline is known here. Its event may be on its way from the registry still.

    Raises:
        NotFoundError: it has not come within `pipeline_wait_seconds`.
    """
    never = threading.Event()
    seconds = runtime.settings.pipeline_wait_seconds
    deadline = runtime.clock.now().timestamp() + seconds
    while True:
        with reading(runtime.engine) as session:
            if session.get(KnownPipeline, name) is not None:
                return
        if runtime.clock.now().timestamp() >= deadline:
            raise NotFoundError(f"there is no pipeline {name!r} (waited {seconds:g} s for it); apply it first")
        runtime.clock.wait(never, _LOOK_SECONDS)


def take(
    runtime: Runtime[DataIngestSettings], chunks: Iterable[bytes], *, pipeline: str, format_: str, name: str
) -> Uploaded:
    """Store an upload and publish it as a dataset. Nothing is published unless all of it is stored.

    Raises:
        InvalidInputError: the body is empty or too long.
    """
    now = runtime.clock.now()
    dataset_id = f"ds-{now:%Y%m%d%H%M%S}-{secrets.token_hex(4)}"
    uri, sha256, size = runtime.store.put_stream(
        f"raw/{dataset_id}/data.{format_}", _not_empty(chunks), runtime.settings.max_upload_bytes
    )
    fact = DatasetPublished(
        dataset_id=dataset_id, pipeline=pipeline, uri=uri, format=format_, sha256=sha256, name=name
    )
    with transaction(runtime.engine) as session:
        # A loop is named after the dataset that starts it.
        event = emit(session, fact, source=DataIngestSettings.service, clock=runtime.clock, correlation_id=dataset_id)
        session.add(Dataset(
            id=dataset_id, state=PENDING, pipeline=pipeline, name=name, uri=uri, format=format_, sha256=sha256,
            correlation_id=event.correlation_id, causation_id=event.id, traceparent=current_traceparent(),
            created_at=now,
        ))
    metrics.UPLOADED_BYTES.inc(size)
    log.info("dataset published", dataset=dataset_id, pipeline=pipeline, bytes=size, uri=uri)
    return Uploaded(dataset_id=dataset_id, uri=uri, sha256=sha256, bytes=size)


def _not_empty(chunks: Iterable[bytes]) -> Iterator[bytes]:
    empty = True
    for chunk in chunks:
        empty = empty and not chunk
        yield chunk
    if empty:
        raise InvalidInputError("the upload is empty (0 bytes); send the rows as the request's body")
