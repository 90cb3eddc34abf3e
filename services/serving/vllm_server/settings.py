"""Settings of the launcher."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from services.serving.resolver import ResolverSettings
from shared.settings import ServiceSettings


class VllmSettings(ServiceSettings, ResolverSettings):
    """Where the base model comes from, and what vLLM is started for."""

    service: ClassVar[str] = "vllm_server"

    base_model: str = Field(description="name that clients ask for, and the base model's name in S3 under base-models/")
    model_path: Path | None = Field(
        default=None, description="folder of the base model; S3 is not asked where it is given"
    )
    cache_dir: Path = Field(default=Path("cache"), description="where base models from S3 are kept between starts")
    vllm_python: Path = Field(
        default=Path("python3"), description="interpreter of the environment that vLLM is installed in"
    )
    max_loras: int = Field(default=4, ge=1, description="adapters that are computed with at a time; each has a slot")
    max_cpu_loras: int = Field(
        default=8, ge=1, description="adapters that stay in memory; the agent lists no more than its own setting"
    )
    max_lora_rank: int = Field(default=64, ge=1, le=512, description="largest LoRA rank; slots are made for it")
    max_model_len: int = Field(
        default=2048, ge=16, description="most tokens of prompt and answer together; the model's own limit if smaller"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(default="auto", description="vLLM's --dtype")
    enforce_eager: bool = Field(default=False, description="start faster, run slower: no graphs, no compilation")
    kv_cache_gib: int = Field(default=4, ge=1, description="memory for keys and values; on CPUs only")
    vllm_arguments: str = Field(default="", description="more arguments for vLLM, as a shell would read them")

    @model_validator(mode="after")
    def _fits(self) -> "VllmSettings":
        if self.max_cpu_loras < self.max_loras:
            raise ValueError(
                f"TUNELOOP_MAX_CPU_LORAS is {self.max_cpu_loras} and TUNELOOP_MAX_LORAS {self.max_loras}: what is "
                "computed with is in memory too, so the first must not be smaller"
            )
        return self
