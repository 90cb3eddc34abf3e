"""Settings of the adapter agent."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from shared.events import Name
from shared.recipe import ModelServer
from shared.settings import ServiceSettings


class AgentSettings(ServiceSettings):
    """The model server that the agent stands beside, and what it may load there."""

    service: ClassVar[str] = "serving"

    replica: Name = Field(description="name of the model server, unique and the same after each restart")
    engine_url: str = Field(
        default="http://127.0.0.1:8000", description="base URL of the model server as this agent reaches it"
    )
    advertised_endpoint: str = Field(
        default="", description="base URL of the model server as the gateway reaches it; engine_url by default"
    )
    base_model: Name = Field(description="name of the base model that the server serves, as in S3 under base-models/")
    cache_dir: Path = Field(
        default=Path("cache"), description="where adapters are staged; the model server reads the same path"
    )
    model_server: ModelServer = Field(
        default="vllm", description="vllm serves plain LoRA; `small`, the engine on transformers and PEFT, all adapters"
    )
    max_loras: int = Field(
        default=4, ge=1, description="vLLM's --max-loras; the agent warns where more adapters than that get traffic"
    )
    max_cpu_loras: int = Field(
        default=8, ge=1,
        description="vLLM's --max-cpu-loras: most adapters that the server lists; beyond it vLLM slows down sixfold",
    )
    max_lora_rank: int = Field(default=64, ge=1, description="vLLM's --max-lora-rank: largest rank that is loaded")
    drain_seconds: float = Field(
        default=60.0, ge=0,
        description="from an adapter's end in the route table to its unload, and from there to the end of its files; "
        "longer than any request may take",
    )
    load_stagger_seconds: float = Field(
        default=0.0, ge=0,
        description="window over which replicas spread the load of a new adapter; a load stops a server's streams",
    )
    load_attempts: int = Field(
        default=5, ge=1, description="how often a load is tried that the server refuses, or whose files are missing"
    )
    engine_timeout_seconds: float = Field(
        default=10.0, gt=0, description="for the server's answer to a look or an unload"
    )
    alive_seconds: float = Field(
        default=300.0, gt=0, description="how often the agent says that the model server answers; see docs/rollouts.md"
    )
    load_timeout_seconds: float = Field(default=120.0, gt=0, description="for the server's answer to a load")

    @model_validator(mode="after")
    def _defaults_from_others(self) -> "AgentSettings":
        self.engine_url = self.engine_url.rstrip("/")
        self.advertised_endpoint = (self.advertised_endpoint or self.engine_url).rstrip("/")
        # Every agent must hear every route, so each is a consumer group of its own.
        self.kafka_group_suffix = self.kafka_group_suffix or f"-{self.replica}"
        return self

    @property
    def adapters_dir(self) -> Path:
        """Where this agent, and nobody else, keeps adapters."""
        return (self.cache_dir / "serving" / self.replica).resolve()

    @property
    def wanted_file(self) -> Path:
        """What the server shall have, for vLLM's plugin; see `services.serving.wanted_file`."""
        return self.adapters_dir.with_name(f"{self.replica}.wanted.json")
