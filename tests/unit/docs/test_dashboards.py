"""Dashboards are whole: Grafana can tell them and their panels apart, and every metric that they ask for exists."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.support.chart import render
from tests.support.dashboards import ROOT, exposed, expressions, load, panels
from tests.support.promql import Expression, Window, metrics_of

DASHBOARDS = load()
ALL = [expression for dashboard in DASHBOARDS.values() for expression in expressions(dashboard)]
FILLED = Window(0, 3600, 15).variables
# What others expose: Prometheus itself, every Python process, vLLM (tests/vllm looks at it), Strimzi's exporter.
FOREIGN = ("up", "process_cpu_seconds_total", "process_resident_memory_bytes", "kafka_consumergroup_lag")
each = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


def test_there_is_one_for_each_question_and_none_is_empty() -> None:
    assert {"loop", "rollout", "drift", "serving", "platform"} == set(DASHBOARDS)
    assert min(Counter(expression.where.split(":")[0] for expression in ALL).values()) > 5


def test_uids_and_titles_are_given_once() -> None:
    for key in ("uid", "title"):
        assert len({dashboard[key] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


@each
def test_panels_have_ids_of_their_own_and_say_what_they_are_for(dashboard: dict[str, Any]) -> None:
    found = list(panels(dashboard))
    for key in ("id", "title"):
        assert len({panel[key] for panel in found}) == len(found), key
    for panel in found:
        if panel["type"] == "row":
            continue
        assert panel["title"], panel["id"]
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), panel["title"]


@each
def test_panels_do_not_lie_upon_each_other(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@each
def test_the_source_is_the_reader_s_choice(dashboard: dict[str, Any]) -> None:
    asked = [
        *(panel for panel in panels(dashboard) if panel["type"] != "row"),
        *(target for panel in panels(dashboard) for target in panel.get("targets", [])),
        *dashboard["annotations"]["list"],
        *(item for item in dashboard["templating"]["list"] if item["type"] == "query"),
    ]
    assert {item["datasource"]["uid"] for item in asked} == {"${datasource}"}
    assert dashboard["templating"]["list"][0]["query"] == "prometheus"


@each
def test_it_leads_to_the_others_and_to_a_page_of_the_runbook(dashboard: dict[str, Any]) -> None:
    others, runbook = dashboard["links"]
    assert others["tags"] == dashboard["tags"] == ["tuneloop"]
    assert others["includeVars"]
    assert others["keepTime"]
    assert (ROOT / runbook["url"].removeprefix("/public/")).is_file(), runbook["url"]


@pytest.mark.parametrize("expression", ALL, ids=lambda expression: expression.where)
def test_prometheus_can_read_it_and_something_exposes_what_it_asks_for(expression: Expression) -> None:
    named = metrics_of(expression.filled(FILLED))
    assert named
    unknown = {name for name in named - exposed() if name not in FOREIGN and not name.startswith("vllm:")}
    assert not unknown, expression.text


@each
def test_variables_are_used_and_every_variable_that_is_used_is_there(dashboard: dict[str, Any]) -> None:
    text = " ".join(expression.text for expression in expressions(dashboard))
    there = {item["name"] for item in dashboard["templating"]["list"]} - {"datasource"}
    assert {name for name in ("route", "pipeline", "version") if f"${name}" in text} == there


def test_the_chart_writes_its_own_address_of_the_runbook_or_none() -> None:
    def links(base: str) -> list[list[str]]:
        values = {"dashboards": {"enabled": True}, "monitoring": {"runbookBaseUrl": base}}
        found = [item for item in render(values) if item["kind"] == "ConfigMap"]
        assert len(found) == len(DASHBOARDS)
        pages = [json.loads(text) for item in found for text in item["data"].values()]
        return [[link["url"] for link in page["links"] if link["type"] == "link"] for page in pages]

    assert links("") == [[]] * len(DASHBOARDS)
    assert all(url.startswith("https://docs.example.com/docs/runbook/")
               for (url,) in links("https://docs.example.com/"))
