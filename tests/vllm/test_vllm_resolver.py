"""tuneloop's plugin inside a real vLLM."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.agents import Adapters, Agent
from tests.support.vllm_server import VllmServer

pytestmark = pytest.mark.vllm


@pytest.fixture
def idle_agent(agent: Agent) -> Agent:
    """An agent that has seen vLLM once, and so knows its base model; it writes its file, and loads when it looks."""
    agent.look()
    return agent


def wish(agent: Agent) -> None:
    """What the next look would do first; a request is faster than the rest of it."""
    agent.loop._publish_wanted(agent.memory.read())


def test_the_first_request_loads_and_the_agent_finds_it_done(
    idle_agent: Agent, vllm: VllmServer, adapters: Adapters
) -> None:
    before = vllm.log().count("Resolved and loaded LoRA adapter 'support@1'")
    idle_agent.route(v1=adapters.put())
    wish(idle_agent)
    assert vllm.listed() == {}
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: vllm.chat("support@1", "hello"), range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"] for answer in answers} == {"support@1"}
    assert vllm.log().count("Resolved and loaded LoRA adapter 'support@1'") == before + 1
    (root,) = vllm.listed().values()
    idle_agent.look()
    assert [data["model_version"] for data in idle_agent.said("adapter.loaded.v1")] == ["support@1"]
    assert vllm.listed() == {"support@1": root}


def test_what_is_not_wanted_is_not_there_and_an_unload_sticks(
    idle_agent: Agent, vllm: VllmServer, adapters: Adapters
) -> None:
    ref = adapters.put()
    idle_agent.route(v1=ref)
    idle_agent.look()
    assert vllm.chat("support@1", "hello").status_code == 200
    idle_agent.route()
    idle_agent.look(4)
    for name in ("support@1", "support@2", "other", "../support@1", "x/../support@1"):
        assert vllm.chat(name, "hello").status_code == 404
    assert vllm.listed() == {}


def test_without_an_agents_file_there_is_nothing(vllm: VllmServer) -> None:
    assert vllm.chat("support@1", "hello").status_code == 404


def test_what_must_not_be_loaded_is_refused_once_and_not_tried_for_each_request(
    idle_agent: Agent, vllm: VllmServer, adapters: Adapters
) -> None:
    before = vllm.log().count("adapter cannot be resolved")
    idle_agent.route(v1=adapters.put(config={"use_dora": True}))
    wish(idle_agent)
    assert [vllm.chat("support@1", "hello").status_code for _ in range(3)] == [404, 404, 404]
    assert vllm.log().count("adapter cannot be resolved") == before + 1
    assert "DoRA" in vllm.log()
    assert vllm.listed() == {}
