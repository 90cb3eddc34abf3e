"""How vLLM is called. Pure: settings in, command and variables out."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.serving.vllm_server.settings import VllmSettings

# The ranks that vLLM has kernels for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def command(settings: VllmSettings, folder: Path, config: Mapping[str, Any]) -> list[str]:
    """vLLM's command line.

    Args:
        folder: of the base model.
        config: its config.json.
    """
    # More than the model was made for is refused by vLLM.
    length = min(settings.max_model_len, int(config.get("max_position_embeddings") or settings.max_model_len))
    eager = ["--enforce-eager"] if settings.enforce_eager else []
    return [
        # Not the `vllm` command: that of the wheel for CPUs looks for a distribution of another name.
        str(settings.vllm_python), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(folder), "--served-model-name", settings.base_model,
        "--enable-lora", "--max-loras", str(settings.max_loras), "--max-cpu-loras", str(settings.max_cpu_loras),
        "--max-lora-rank", str(next(rank for rank in _RANKS if rank >= settings.max_lora_rank)),
        "--dtype", settings.dtype, "--max-model-len", str(length), *eager,
        "--host", settings.http_host, "--port", str(settings.http_port), "--disable-uvicorn-access-log",
        *shlex.split(settings.vllm_arguments),
    ]


def environment(settings: VllmSettings, inherited: Mapping[str, str]) -> dict[str, str]:
    """vLLM's environment; what a person has set already stays."""
    ours = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        # vLLM's own resolvers would take adapters from folders and hubs that nobody has checked.
        "VLLM_PLUGINS": "tuneloop",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
    }
    return ours | dict(inherited)
