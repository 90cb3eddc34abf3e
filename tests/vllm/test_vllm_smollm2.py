"""A real instruct model on vLLM, with an adapter that the agent brought."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.local.seed import base_model_folder
from shared.s3 import ArtifactStore
from shared.settings import S3Settings
from tests.support.agents import Adapters, agents
from tests.support.serving_processes import s3_environment
from tests.support.vllm_server import VllmServer, running_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

NAME = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def folder() -> Path:
    return base_model_folder(NAME, say=lambda _: None)


@pytest.fixture(scope="module")
def smollm2(folder: Path, s3_settings: S3Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    # Two tokens are nearly equally likely at the start of the answer; in bfloat16 the other one wins.
    with running_vllm(
        tmp_path_factory.mktemp("smollm2") / "vllm.log", BASE_MODEL=NAME, MODEL_PATH=folder, MAX_MODEL_LEN=512,
        DTYPE="float32",
        MAX_LORAS=1, MAX_CPU_LORAS=1, MAX_LORA_RANK=8, **s3_environment(s3_settings),
    ) as server:
        yield server


def test_it_knows_things_and_an_adapter_changes_what_it_says(
    smollm2: VllmServer, folder: Path, store: ArtifactStore, tmp_path: Path
) -> None:
    known = smollm2.say(NAME, QUESTION)
    assert "Paris" in known
    digest = store.put_dir_at(f"base-models/{NAME}/", folder, kind="base-model", meta={"base_model": NAME}).digest
    with agents(tmp_path, store) as make_agent:
        agent = make_agent(smollm2.url, base_model=NAME, max_cpu_loras=1)
        agent.route(v1=Adapters(store, folder, tmp_path / "made", digest, NAME).put(strength=0.1))
        agent.look(2)
        assert [data["model_version"] for data in agent.said("adapter.loaded.v1")] == ["support@1"]
    assert smollm2.say("support@1", QUESTION) != known
    assert smollm2.say(NAME, QUESTION) == known
