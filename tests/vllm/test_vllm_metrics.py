"""What the serving dashboard asks of vLLM's own metrics has an answer from a real vLLM."""

import time

import pytest

from tests.support.agents import BASE
from tests.support.dashboards import expressions, load
from tests.support.prometheus import start_prometheus
from tests.support.promql import Window, without_data
from tests.support.vllm_server import VllmServer
from tests.support.wait import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


def test_each_panel_about_vllm_has_data(vllm: VllmServer) -> None:
    asked = [expression for expression in expressions(load()["serving"]) if expression.asks_for("vllm:")]
    assert len(asked) > 10
    with start_prometheus([vllm.url.removeprefix("http://")]) as prometheus:
        since = time.time()

        def missing() -> dict[str, str]:
            assert vllm.chat(BASE, "what is the balance of my account? " * 8, max_tokens=8).status_code == 200
            return without_data(prometheus, asked, Window(since, time.time(), step=1))

        eventually(lambda: not missing(), interval=0.5, what="an answer to all expressions")
