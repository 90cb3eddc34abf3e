"""Settings of the engine."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from shared.settings import ServiceSettings


class EngineSettings(ServiceSettings):
    """Where the base model comes from, and how much the engine takes on at once."""

    service: ClassVar[str] = "engine"

    base_model: str = Field(default="", description="name of the base model in S3, under base-models/")
    model_path: Path | None = Field(
        default=None, description="folder of the base model; S3 is not asked where it is given"
    )
    served_model_name: str = Field(
        default="", description="name that clients ask for; the base model's name by default"
    )
    cache_dir: Path = Field(default=Path("cache"), description="where base models from S3 are kept between starts")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="float32 is three to seven times as fast in prefill on CPUs without bfloat16 instructions",
    )
    torch_threads: int = Field(default=0, ge=0, description="threads for one forward pass; 0 leaves torch's default")
    max_model_len: int = Field(default=2048, ge=16, description="most tokens of prompt and answer together")
    max_batch_size: int = Field(default=8, ge=1, description="most requests that decode together")
    max_prefill_tokens: int = Field(
        default=1024, ge=1,
        description="most prompt tokens between two tokens of running answers, unless one prompt is longer",
    )
    max_queue: int = Field(default=64, ge=1, description="most requests that wait; more are answered 503 at once")
    max_loras: int = Field(default=8, ge=1, description="most adapters that are loaded at a time")
    max_lora_rank: int = Field(default=64, ge=1, description="largest LoRA rank that is accepted")
    fault_hooks: bool = Field(
        default=False, description="for tests only: POST /v1/test/faults makes an adapter's requests fail or wait"
    )

    @model_validator(mode="after")
    def _has_a_model(self) -> "EngineSettings":
        if not self.base_model and self.model_path is None:
            raise ValueError("give TUNELOOP_BASE_MODEL (its name in S3) or TUNELOOP_MODEL_PATH (a folder)")
        return self

    @property
    def model_name(self) -> str:
        """What clients call the base model."""
        return self.served_model_name or self.base_model or (self.model_path.name if self.model_path else "")
