"""The drift service's settings."""

from typing import ClassVar

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings


class DriftSettings(ServiceSettings):
    """How samples become embeddings."""

    service: ClassVar[str] = "drift"

    embeddings_url: str = Field(
        default="", description="base URL of an OpenAI-compatible API with /v1/embeddings; empty compares no embeddings"
    )
    embeddings_model: str = Field(default="", description="model to ask it for")
    embeddings_key: SecretStr = Field(default=SecretStr(""), description="sent as a bearer token where it is not empty")
    embeddings_timeout_seconds: float = Field(default=30.0, gt=0, description="of one batch; it is tried again later")
