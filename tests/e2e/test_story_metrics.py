"""All that dashboards ask of Prometheus has an answer once the story was told; what has none is listed with why."""

import time
from typing import Any

import pytest

from tests.support.dashboards import expressions, load, variables
from tests.support.promql import Expression, Window, answer, without_data
from tests.support.promtool import looked_at
from tests.support.story import Told
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# Where the story has nothing to show. tests/vllm asks for what vLLM itself exposes.
NOT_IN_THE_STORY = {
    "tuneloop-rollout: Copies A": "no step of its policy copies requests to a shadow",
    "tuneloop-rollout: Answers that differ A": "no step of its policy copies requests to a shadow",
    "tuneloop-rollout: A/B test: how much better the candidate is A": "its policy has no A/B test",
    "tuneloop-rollout: Invalid structured output A": "the small engine takes no response_format",
    "tuneloop-platform: Consumer lag, as brokers see it A": "Strimzi's exporter is part of a cluster",
}


NO_DATA = 'max by (route)(tuneloop_rollout_decided_timestamp_seconds{rule="no_data"})'
FAILED_CALLS = 'tuneloop_rollout_webhook_calls_total{outcome="failed"}'
RULES_WITHOUT_DATA = {
    "tuneloop_gateway_api_keys_file_ok{}": "its gateway asks for no keys",
    'max by (route)(tuneloop_rollout_decided_timestamp_seconds{action="extend"})': "it comes to its decisions in time",
    f"sum by (webhook, type)(increase({FAILED_CALLS}[1h]))": "its policy calls nobody",
    f"sum by (webhook, type)({FAILED_CALLS})": "its policy calls nobody",
    NO_DATA: "whether a look comes before the first scrape is chance",
}


def own() -> list[Expression]:
    """What tuneloop's own processes must have an answer for."""
    everything = [expression for dashboard in load().values() for expression in expressions(dashboard)]
    return [item for item in everything if not item.asks_for("vllm:")]


def test_every_panel_and_annotation_has_data(told: Told) -> None:
    url, asked = told.stack.url("prometheus"), own()
    assert set(NOT_IN_THE_STORY) < {item.where for item in asked}

    def missing() -> set[str]:
        window = Window(told.since, time.time(), step=5)
        return set(without_data(url, asked, window))

    # The last of it is scraped within a second or two.
    eventually(lambda: missing() <= set(NOT_IN_THE_STORY), interval=1, what="an answer to all expressions")
    assert missing() == set(NOT_IN_THE_STORY), "those that have data now need no excuse"


def test_all_that_rules_look_at_has_data(told: Told) -> None:
    url, asked = told.stack.url("prometheus"), looked_at()

    def missing() -> set[str]:
        window = Window(told.since, time.time(), step=5)
        return {item.text for item in asked if not answer(url, item.text, window)}

    eventually(lambda: missing() <= set(RULES_WITHOUT_DATA), interval=1, what="data for all rules")
    assert missing() | {NO_DATA} == set(RULES_WITHOUT_DATA), "those that have data now need no excuse"


@pytest.mark.parametrize("dashboard", load().values(), ids=load())
def test_every_variable_has_values(told: Told, dashboard: dict[str, Any]) -> None:
    window = Window(told.since, time.time(), step=5)
    for name, series, label in variables(dashboard):
        found = answer(told.stack.url("prometheus"), Expression(name, series).filled(window.variables), window)
        assert {item["metric"][label] for item in found}, f"{dashboard['uid']}: {name}"
