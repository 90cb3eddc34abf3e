"""The rollout controller's settings."""

from typing import ClassVar

from pydantic import Field

from shared.settings import ServiceSettings


class RolloutSettings(ServiceSettings):
    """Where the evidence comes from."""

    service: ClassVar[str] = "rollout"

    prometheus_url: str = Field(
        default="http://127.0.0.1:9090", description="base URL of the Prometheus that scrapes the gateways"
    )
    prometheus_timeout_seconds: float = Field(default=10.0, gt=0, description="a slower query is no data")
    prometheus_stale_seconds: float = Field(
        default=30.0, gt=0, le=300, description="older samples are no data; take three scrape intervals"
    )
