"""Value classes that several payloads carry."""

from bisect import bisect_left
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", examples=["sha256:" + "0" * 64])]
S3Uri = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]+/.+$", examples=["s3://tuneloop/adapters/abc/"])]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", examples=["support-intents"])]


class Value(BaseModel):
    """Base of immutable values inside payloads."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ArtifactRef(Value):
    """An immutable folder in S3 whose ``manifest.json`` lists every file with its sha256.

    Attributes:
        uri: the folder, ending in ``/``.
        digest: sha256 over the manifest's canonical file list.
    """

    uri: S3Uri
    digest: Digest


class Distribution(Value):
    """Counts in named buckets.

    Attributes:
        edges: of a number's buckets: bucket i holds what is above ``edges[i - 1]`` and at most ``edges[i]``, and the
            last one what is above all. Empty where the buckets are categories.
    """

    labels: list[str]
    counts: list[int]
    edges: list[float] = Field(default_factory=list)

    @property
    def total(self) -> int:
        """How many observations were counted."""
        return sum(self.counts)

    def place(self, value: float) -> int:
        """The bucket of a number."""
        return bisect_left(self.edges, value)


class DatasetRef(Value):
    """A prepared dataset version: `artifact` holds train/validation/test.parquet, report.json and profile.json."""

    dataset_id: str
    artifact: ArtifactRef
    rows: dict[Literal["train", "validation", "test"], int]


class ModelRef(Value):
    """A model version: the adapter `artifact`, made for one `base_model`, named ``route@number``."""

    model_version: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*@[1-9][0-9]*$", examples=["support-intents@3"])]
    base_model: Name
    artifact: ArtifactRef
    dataset: DatasetRef
