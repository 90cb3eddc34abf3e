"""What an operator may set on the gateway."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shared.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Settings of the gateway. It uses neither the database nor S3."""

    service: ClassVar[str] = "gateway"

    state_dir: Path = Field(
        default=Path("gateway-state"), description="folder of the last route table, so that a restart needs no Kafka"
    )
    max_body_bytes: int = Field(default=4_194_304, ge=1024, description="longer request bodies are answered with 413")
    max_response_bytes: int = Field(
        default=16_777_216, ge=1024, description="longer unstreamed answers of a model server are answered with 502"
    )
    max_in_flight: int = Field(
        default=1000, ge=1, description="requests at once; more are answered with 503, so that memory stays bounded"
    )
    max_connections: int = Field(default=10_000, ge=1, description="connections of clients at once; more are closed")
    max_head_bytes: int = Field(
        default=32_768, ge=1024, description="longer heads of requests are answered with 431; each header costs 32 more"
    )
    head_timeout_seconds: float = Field(default=10.0, gt=0, description="time in which a request's head must arrive")
    write_timeout_seconds: float = Field(
        default=60.0, gt=0, description="a client that takes nothing of its answer for this long is dropped"
    )
    body_timeout_seconds: float = Field(default=30.0, gt=0, description="time in which a request's body must arrive")
    connect_timeout_seconds: float = Field(default=2.0, gt=0, description="time to connect to a model server")
    read_timeout_seconds: float = Field(
        default=300.0, gt=0,
        description="silence of a model server that ends a request; a long unstreamed answer is silence, too",
    )
    eject_after_failures: int = Field(
        default=3, ge=1,
        description="failed connects, or failed answers (5xx, broken off, too late), in a row after which a replica is "
        "skipped while others exist",
    )
    eject_seconds: float = Field(
        default=5.0, gt=0,
        description="how long such a replica is skipped; then one request at a time tries it",
    )
    max_units: int = Field(
        default=100_000, ge=1, description="distinct units counted per route; where they are so many, its counts stop"
    )
    shutdown_seconds: int = Field(default=20, ge=1, description="time for requests in flight to finish after SIGTERM")
    api_keys_file: Path | None = Field(
        default=None, description="file of API keys, read again when it changes; without one anybody may ask"
    )
    capture_queue_bytes: int = Field(
        default=33_554_432, ge=1024, description="samples that wait for Kafka; more are dropped and counted"
    )
    capture_answer_bytes: int = Field(
        default=1_048_576, ge=1024,
        description="raw bytes of an answer that are kept for its sample; a stream has some 200 for each token",
    )
    feedback_memory: int = Field(
        default=50_000, ge=0,
        description="answers of late whose model version and user's fingerprint are remembered for feedback; some 500 "
        "bytes each",
    )
    feedback_timeout_seconds: float = Field(
        default=5.0, gt=0, description="time in which Kafka must take a feedback; then it is answered with 503"
    )
    shadow_max_in_flight: int = Field(
        default=32, ge=1, description="shadow copies at once; more are dropped and counted"
    )
    shadow_timeout_seconds: float = Field(
        default=60.0, gt=0, description="time for the whole answer to a shadow copy, which is then cut off"
    )
