"""The registry's settings."""

from typing import ClassVar

from pydantic import Field

from shared.recipe import ModelServer
from shared.settings import ServiceSettings


class RegistrySettings(ServiceSettings):
    """What the registry must know to refuse a pipeline whose adapters nobody could serve."""

    service: ClassVar[str] = "registry"

    model_server: ModelServer = Field(
        default="vllm", description="vllm serves plain LoRA; `small`, the engine on transformers and PEFT, all adapters"
    )
