"""Settings of the proxy."""

from typing import ClassVar

from pydantic import Field

from shared.settings import ServiceSettings


class FaultProxySettings(ServiceSettings):
    """The model server behind it; for tests and the demo, never for real use."""

    service: ClassVar[str] = "fault_proxy"

    engine_url: str = Field(default="http://127.0.0.1:8000", description="base URL of the model server behind it")
