"""What vLLM does with adapters, pinned: each of these is a reason for something that the agent does or never does.

When a new vLLM fails one of them, the agent may be allowed more; read docs/serving.md before changing anything.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving.engine_client import EngineClient
from tests.support.adapters import write_adapter
from tests.support.vllm_server import VllmServer
from tests.support.wait import eventually
from tests.vllm.conftest import MAX_CPU_LORAS

pytestmark = pytest.mark.vllm

LONG = "what is the balance of my account and why was my card declined at the shop yesterday? " * 6


def test_it_lists_the_base_and_each_adapter_with_its_folder(
    vllm: VllmServer, tiny_model: Path, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a", tiny_model)
    answer = vllm.load("a@1", folder)
    # Plain text, though nothing says so; and an error is JSON.
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'a@1' added successfully.")
    assert "content-type" not in answer.headers
    base, adapter = vllm.client.get("/v1/models").json()["data"]
    assert (base["id"], base["parent"]) == ("tiny", None)
    assert (adapter["id"], adapter["parent"], adapter["root"]) == ("a@1", "tiny", str(folder))
    with EngineClient(vllm.url, timeout=10, load_timeout=10) as client:
        listing = client.look()
    assert (set(listing.bases), listing.adapters) == ({"tiny"}, {"a@1": str(folder)})
    assert float(listing.started) > 1e9


def test_answers_of_the_adapter_calls(vllm: VllmServer, tiny_model: Path, tmp_path: Path) -> None:
    good = write_adapter(tmp_path / "good", tiny_model)
    assert vllm.load("a@1", good).status_code == 200
    dora = write_adapter(tmp_path / "dora", tiny_model, config={"use_dora": True})
    wide = write_adapter(tmp_path / "wide", tiny_model, config={"r": 16})
    saved = write_adapter(tmp_path / "saved", tiny_model, config={"modules_to_save": ["lm_head"]})
    torn = write_adapter(tmp_path / "torn", tiny_model)
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    for answer, status, word in [
        (vllm.load("a@1", good), 400, "already been loaded"),
        (vllm.load("a@1", dora), 400, "already been loaded"),
        (vllm.load("tiny", good), 400, "conflicts with a served base model"),
        (vllm.load("", good), 400, "must be provided"),
        (vllm.load("b@1", tmp_path / "nowhere"), 404, "No adapter found"),
        # Our mistakes and theirs look alike: so the agent checks all of this before it loads.
        (vllm.load("b@1", dora), 500, "DoRA"),
        (vllm.load("b@1", wide), 500, "rank 16"),
        (vllm.load("b@1", saved), 500, "modules_to_save"),
        (vllm.load("b@1", torn), 500, "deserializing header"),
        (vllm.unload("b@1"), 404, "cannot be found"),
    ]:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], word in error["message"]) == (status, status, True), answer.text
    assert list(vllm.listed()) == ["a@1"]
    assert vllm.unload("a@1").text == "Success: LoRA adapter 'a@1' removed successfully."
    missing = vllm.chat("a@1", "hello")
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "model")


def test_an_adapter_for_another_base_of_the_same_shapes_is_loaded_without_a_word(
    vllm: VllmServer, tiny_model: Path, tmp_path: Path
) -> None:
    stranger = write_adapter(tmp_path / "a", tiny_model, config={"base_model_name_or_path": "another/model"})
    assert vllm.load("a@1", stranger).status_code == 200


def test_a_path_with_new_weights_answers_from_a_mixture_and_a_new_path_does_not(
    vllm: VllmServer, tiny_model: Path, tmp_path: Path
) -> None:
    """The prefix cache knows blocks by the adapter's name and path. So a path never gets other bytes."""
    old, new = (write_adapter(tmp_path / str(seed), tiny_model, seed=seed) for seed in (1, 2))
    truth = said_by(vllm, "fresh@1", new)
    said_by(vllm, "same@1", old)
    assert said_by(vllm, "same@1", new) == truth, "the same name with another path is clean"
    path = tmp_path / "changing"
    shutil.copytree(old, path)
    said_by(vllm, "changing@1", path)
    shutil.copy(new / "adapter_model.safetensors", path)
    assert said_by(vllm, "changing@1", path) != truth


def said_by(vllm: VllmServer, name: str, path: Path) -> str:
    assert vllm.load(name, path).status_code == 200
    text = vllm.say(name, LONG)
    assert vllm.unload(name).status_code == 200
    return text


def test_a_stream_outlives_the_unload_of_its_adapter(vllm: VllmServer, tiny_model: Path, tmp_path: Path) -> None:
    """So an unload ends nothing, and the files must stay for as long as a request may take."""
    vllm.load("a@1", write_adapter(tmp_path / "a", tiny_model))
    whole = vllm.say("a@1", "go on", max_tokens=200, ignore_eos=True)
    body: dict[str, Any] = {
        "model": "a@1", "messages": [{"role": "user", "content": "go on"}], "temperature": 0, "max_tokens": 200,
        "ignore_eos": True, "stream": True,
    }
    with vllm.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        first = next(line for line in lines if line.startswith("data: {"))
        with httpx.Client(base_url=vllm.url, trust_env=False, timeout=60) as other:
            assert other.post("/v1/unload_lora_adapter", json={"lora_name": "a@1"}).status_code == 200
        chunks = [json.loads(line[6:]) for line in [first, *lines] if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == whole


def test_more_adapters_than_fit_are_loaded_and_it_dies_where_an_evicted_ones_files_are_gone(
    vllm: VllmServer, tiny_model: Path, tmp_path: Path
) -> None:
    """So the agent counts, and deletes only what is not listed."""
    folders = [write_adapter(tmp_path / str(seed), tiny_model, seed=seed) for seed in range(MAX_CPU_LORAS + 1)]
    for number, folder in enumerate(folders, start=1):
        assert vllm.load(f"a@{number}", folder).status_code == 200
    assert len(vllm.listed()) == MAX_CPU_LORAS + 1
    assert vllm.chat("a@2", "hello").status_code == 200
    # a@1 was evicted when a@4 came; it is still listed.
    shutil.rmtree(folders[0])
    assert answers_ok(vllm, "a@1") is False
    eventually(lambda: vllm.process.poll() is not None, what="the end of the whole server")


def test_an_adapter_that_was_loaded_in_place_is_read_again_for_each_request(
    vllm: VllmServer, tiny_model: Path, tmp_path: Path
) -> None:
    """So nothing is ever loaded in place."""
    folder = write_adapter(tmp_path / "a", tiny_model)
    body = {"lora_name": "a@1", "lora_path": str(folder), "load_inplace": True}
    assert vllm.client.post("/v1/load_lora_adapter", json=body).status_code == 200
    assert vllm.chat("a@1", "hello").status_code == 200
    shutil.rmtree(folder)
    assert answers_ok(vllm, "a@1") is False
    eventually(lambda: vllm.process.poll() is not None, what="the end of the whole server")


def answers_ok(vllm: VllmServer, model: str) -> bool:
    try:
        return vllm.chat(model, "hello").status_code == 200
    except httpx.HTTPError:
        return False
