"""The agent's whole life beside a real vLLM."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving.decide import Wanted
from services.serving.wanted import folder_name
from shared.events import ArtifactRef
from shared.s3 import ArtifactStore
from tests.support.agents import BASE, Adapters, Agent
from tests.support.vllm_server import VllmServer
from tests.vllm.conftest import MAX_CPU_LORAS

pytestmark = pytest.mark.vllm


def states(agent: Agent) -> dict[str, str]:
    return {row.model_version: row.state for row in agent.memory.read().adapters}


def test_an_adapter_is_loaded_said_used_drained_and_gone(
    agent: Agent, vllm: VllmServer, adapters: Adapters
) -> None:
    base = vllm.say(BASE, "hello")
    first, second = adapters.put(), adapters.put()
    agent.route(v1=first)
    agent.look(2)
    (ready,) = agent.said("replica.ready.v1")
    (loaded,) = agent.said("adapter.loaded.v1")
    assert (ready["endpoint"], loaded["model_version"], loaded["digest"]) == (vllm.url, "support@1", first.digest)
    root = Path(vllm.listed()["support@1"])
    assert root == agent.settings.adapters_dir / folder_name("support@1", first.digest)
    assert vllm.say("support@1", "hello") != base
    agent.route(v2=second)
    agent.look(5)
    assert set(vllm.listed()) == {"support@2"}
    assert [data["model_version"] for data in agent.said("adapter.unloaded.v1")] == ["support@1"]
    assert not root.exists()
    assert vllm.say(BASE, "hello") == base


@pytest.mark.parametrize(("wrong", "word"), [
    ({"meta": {"base_model_digest": "sha256:" + "0" * 64}}, "made for another base model"),
    ({"config": {"use_dora": True}}, "DoRA"),
    ({"config": {"r": 16}}, "rank 16"),
    ({"config": {"modules_to_save": ["lm_head"]}}, "modules_to_save"),
])
def test_what_must_not_be_loaded_never_reaches_vllm(
    agent: Agent, vllm: VllmServer, adapters: Adapters, wrong: dict[str, Any], word: str
) -> None:
    before = vllm.log().count("Call to add_lora method failed")
    agent.route(v1=adapters.put(**wrong))
    agent.look(3)
    (failed,) = agent.said("adapter.failed.v1")
    assert (failed["permanent"], word in failed["reason"]) == (True, True), failed
    assert vllm.listed() == {}
    assert vllm.log().count("Call to add_lora method failed") == before


def test_bytes_that_changed_in_s3_never_reach_vllm(
    agent: Agent, vllm: VllmServer, adapters: Adapters, store: ArtifactStore
) -> None:
    ref, other = adapters.put(), adapters.put()
    store.put_bytes(ref.uri + "adapter_config.json", b"{}")
    agent.route(v1=ref, v2=ArtifactRef(uri=other.uri, digest=ref.digest))
    agent.look(4)
    reasons = {data["model_version"]: data["reason"] for data in agent.said("adapter.failed.v1") if data["permanent"]}
    assert "adapter_config.json" in reasons["support@1"]
    assert other.digest in reasons["support@2"]
    assert vllm.listed() == {}


def test_weights_for_other_shapes_are_vllms_to_refuse(
    agent: Agent, vllm: VllmServer, adapters: Adapters, tiny_model: Path, tmp_path: Path
) -> None:
    """The agent does not know the base model's layers. A refusal that might pass is tried again, a few times."""
    other = tmp_path / "model"
    other.mkdir()
    config = json.loads((tiny_model / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "hidden_size": 2 * config["hidden_size"], "head_dim": 16}))
    agent.route(v1=adapters.put(model=other))
    agent.look()
    (failed,) = agent.said("adapter.failed.v1")
    assert (failed["permanent"], "the model server answered 500" in failed["reason"]) == (False, True), failed
    agent.drop_waits()
    agent.look()
    assert agent.said("adapter.failed.v1")[-1]["permanent"]
    assert vllm.well()
    assert vllm.say(BASE, "hello")


def test_already_loaded_is_a_success_from_the_right_folder_only(
    agent: Agent, vllm: VllmServer, adapters: Adapters, tmp_path: Path
) -> None:
    """An attempt that timed out, or the plugin, may have been faster than this load."""
    ref = adapters.put()
    agent.route(v1=ref)
    agent.look()
    root = vllm.listed()["support@1"]
    again = Wanted("support@1", ref.uri, ref.digest, root, "loop", "cause")
    agent.loop._load(again)
    assert [data["model_version"] for data in agent.said("adapter.loaded.v1")] == ["support@1", "support@1"]
    agent.loop._load(Wanted("support@1", ref.uri, ref.digest, str(tmp_path / "elsewhere"), "loop", "cause"))
    (failed,) = agent.said("adapter.failed.v1")
    assert "has already been loaded" in failed["reason"]


def test_no_more_adapters_are_listed_than_stay_in_memory(agent: Agent, vllm: VllmServer, adapters: Adapters) -> None:
    refs = {f"v{number}": adapters.put() for number in range(1, MAX_CPU_LORAS + 3)}
    agent.route(**refs)
    agent.look(MAX_CPU_LORAS + 3)
    assert set(vllm.listed()) == {f"support@{number}" for number in range(1, MAX_CPU_LORAS + 1)}
    waiting = [data for data in agent.said("adapter.failed.v1") if not data["permanent"]]
    assert {data["model_version"] for data in waiting} == {"support@4", "support@5"}
    assert "waiting for one to leave" in waiting[0]["reason"]
    agent.route(v4=refs["v4"], v5=refs["v5"])
    for _ in range(6):
        agent.drop_waits()
        agent.look()
    assert set(vllm.listed()) == {"support@4", "support@5"}


def test_a_stream_goes_on_while_its_adapter_drains_and_leaves(
    vllm: VllmServer, make_agent: Callable[..., Agent], adapters: Adapters
) -> None:
    agent = make_agent(vllm.url, drain_seconds=600)
    agent.route(v1=adapters.put())
    agent.look()
    body = {
        "model": "support@1", "messages": [{"role": "user", "content": "go on"}], "max_tokens": 100, "stream": True,
        "ignore_eos": True,
    }
    with vllm.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        agent.route()
        agent.look(2)
        assert states(agent) == {"support@1": "draining"}
        with httpx.Client(base_url=vllm.url, trust_env=False, timeout=60) as other:
            assert other.post("/v1/unload_lora_adapter", json={"lora_name": "support@1"}).status_code == 200
        agent.look(2)
        # Not listed any more; its files stay for the requests that still use them.
        assert states(agent) == {"support@1": "unloaded"}
        assert [path.name.split(".")[0] for path in agent.settings.adapters_dir.iterdir()] == ["support@1"]
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_adapters_come_back_by_themselves_after_a_kill(
    agent: Agent, vllm: VllmServer, adapters: Adapters
) -> None:
    agent.route(v1=adapters.put(), v2=adapters.put())
    agent.look(2)
    answers = {name: vllm.say(name, "hello") for name in ("support@1", "support@2")}
    vllm.kill_and_wait()
    agent.look(2)
    assert len(agent.said("replica.ready.v1")) == 1
    vllm.restart()
    assert vllm.listed() == {}
    agent.look(2)
    assert len(agent.said("replica.ready.v1")) == 2
    assert len(agent.said("adapter.loaded.v1")) == 4
    assert {name: vllm.say(name, "hello") for name in answers} == answers
