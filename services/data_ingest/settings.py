"""data_ingest's settings."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shared.settings import ServiceSettings


class DataIngestSettings(ServiceSettings):
    """What data_ingest needs beyond what every service does."""

    service: ClassVar[str] = "data_ingest"

    max_upload_bytes: int = Field(default=10 * 1024**3, gt=0, description="longer uploads are refused")
    pipeline_wait_seconds: float = Field(
        default=5.0, ge=0, description="how long an upload waits for a pipeline that was applied just now"
    )
    pipeline_grace_seconds: float = Field(
        default=60.0, ge=0, description="a dataset whose pipeline is still unknown after this long is rejected"
    )
    work_dir: Path = Field(
        default=Path(".tuneloop/ingest"),
        description="folder for files under preparation; needs three times the largest dataset",
    )
