"""Facts about datasets, from the upload to the prepared version."""

from pydantic import Field

from shared.events.common import DatasetRef, Digest, Name, S3Uri
from shared.events.envelope import Payload, Topic, event


@event("dataset.published.v1", Topic.DATASETS, producer="data_ingest", consumers=("data_ingest", "registry"))
class DatasetPublished(Payload):
    """New rows for a pipeline are in S3. Anyone may publish this; the upload API does it for you.

    Attributes:
        dataset_id: unique per publication.
        uri: the object with the rows.
        format: how the rows are written; ``jsonl`` is one JSON object a line.
        sha256: of the object's bytes; checked where given.
    """

    dataset_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    pipeline: Name
    uri: S3Uri
    format: str = "jsonl"
    sha256: Digest | None = None
    name: str = ""

    def subject(self) -> str:
        return self.dataset_id


@event("dataset.prepared.v1", Topic.DATASETS, producer="data_ingest", consumers=("evaluator", "registry", "trainer"))
class DatasetPrepared(Payload):
    """The rows were validated, deduplicated, split and written as an immutable dataset version."""

    dataset_id: str
    pipeline: Name
    pipeline_version: int
    dataset: DatasetRef
    source_uri: S3Uri
    rows_in: int
    rows_rejected: dict[str, int] = Field(default_factory=dict, description="rejected rows by reason")
    name: str = ""

    def subject(self) -> str:
        return self.dataset_id


@event("dataset.rejected.v1", Topic.DATASETS, producer="data_ingest", consumers=("registry",))
class DatasetRejected(Payload):
    """The dataset cannot be used; each reason says what was wrong and where."""

    dataset_id: str
    pipeline: Name
    reasons: list[str]
    source_uri: S3Uri
    name: str = ""

    def subject(self) -> str:
        return self.dataset_id
