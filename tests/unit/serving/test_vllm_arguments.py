"""How vLLM is called."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.serving.vllm_server.arguments import command, environment
from services.serving.vllm_server.settings import VllmSettings


def arguments(config: dict[str, Any] | None = None, **settings: Any) -> list[str]:
    return command(VllmSettings(base_model="tiny", **settings), Path("/models/tiny"), config or {})


def value(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_the_name_is_the_base_models_and_the_folder_is_its_own() -> None:
    argv = arguments(vllm_python=Path("/venv/bin/python"))
    assert argv[:3] == ["/venv/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    assert (value(argv, "--model"), value(argv, "--served-model-name")) == ("/models/tiny", "tiny")
    assert "--enable-lora" in argv
    assert "--enforce-eager" not in argv
    assert "--enforce-eager" in arguments(enforce_eager=True)


@pytest.mark.parametrize(("wanted", "given"), [(1, "1"), (2, "8"), (8, "8"), (64, "64"), (65, "128"), (512, "512")])
def test_the_rank_is_the_next_that_vllm_has(wanted: int, given: str) -> None:
    assert value(arguments(max_lora_rank=wanted), "--max-lora-rank") == given


@pytest.mark.parametrize(("config", "length"), [({"max_position_embeddings": 512}, "512"), ({}, "2048")])
def test_the_length_is_not_more_than_the_model_s(config: dict[str, Any], length: str) -> None:
    assert value(arguments(config), "--max-model-len") == length


def test_more_arguments_come_last_as_a_shell_would_read_them() -> None:
    argv = arguments(vllm_arguments="--gpu-memory-utilization 0.8 --chat-template '/a b'")
    assert argv[-4:] == ["--gpu-memory-utilization", "0.8", "--chat-template", "/a b"]


def test_what_is_computed_with_is_in_memory_too() -> None:
    with pytest.raises(ValidationError, match="TUNELOOP_MAX_CPU_LORAS is 2 and TUNELOOP_MAX_LORAS 4"):
        arguments(max_loras=4, max_cpu_loras=2)


def test_no_other_resolver_than_ours_is_let_in_and_a_persons_variables_stay() -> None:
    settings = VllmSettings(base_model="tiny", kv_cache_gib=3)
    made = environment(settings, {"PATH": "/bin", "HF_HUB_OFFLINE": "0"})
    assert (made["VLLM_PLUGINS"], made["VLLM_ALLOW_RUNTIME_LORA_UPDATING"]) == ("tuneloop", "1")
    assert (made["VLLM_CPU_KVCACHE_SPACE"], made["PATH"], made["HF_HUB_OFFLINE"]) == ("3", "/bin", "0")
