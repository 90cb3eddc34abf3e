"""Each alert says what to do, looks at metrics that exist, and has a page in the runbook."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from services.cli.local.plan import SERVICES
from tests.support.chart import CHART, render, values_of
from tests.support.commands import check_tuneloop
from tests.support.dashboards import exposed
from tests.support.promql import metrics_of, operands
from tests.support.promtool import alerts, looked_at

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbook"


def test_every_metric_that_rules_look_at_exists() -> None:
    asked = {name for item in looked_at() for name in metrics_of(item.text)}
    assert "tuneloop_inbox_dead" in asked
    assert asked - {"up"} <= exposed()


@pytest.mark.parametrize(("text", "parts"), [
    ("a > 5", ["a{}"]), ("abs(a - b) > 0 and c == 1", ["abs(a{} - b{})", "c{}"]),
    ('absent(up{job="x"}) or absent(up{job="y"})', ['up{job="x"}', 'up{job="y"}']),
    ("(sum(a) unless sum(a offset 1h)) > 0", ["sum(a{})"]), ("a / (b > 0) > 0.5", ["a{} / (b{} > 0)"]),
])
def test_an_expression_is_taken_apart_at_its_comparisons(text: str, parts: list[str]) -> None:
    assert operands(text) == parts


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (page, anchor) == (f"docs/runbook/{rule['file']}.md", name.lower())
    assert "{{ $" in rule["annotations"]["summary"] + rule["annotations"]["description"]
    section = _sections(RUNBOOK / f"{rule['file']}.md")[name]
    for part in ("**Means**", "**Look**", "**Do**"):
        assert part in section


def _sections(page: Path) -> dict[str, str]:
    parts = re.split(r"^## (\w+)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_runbook_is_about_alerts_that_exist_and_its_index_names_all_pages() -> None:
    pages = [page for page in RUNBOOK.glob("*.md") if page.name != "README.md"]
    assert {name for page in pages for name in _sections(page)} == set(alerts())
    index = (RUNBOOK / "README.md").read_text()
    assert set(re.findall(r"\((\w+\.md)#", index)) == {page.name for page in pages}
    assert set(re.findall(r"\[(Tuneloop\w+)\]", index)) == set(alerts())


def test_the_commands_of_the_runbook_exist() -> None:
    """Each `tuneloop ...` is a command of the CLI, and its options are options of that command."""
    used = {line for page in RUNBOOK.glob("*.md") for line in re.findall(r"`(tuneloop [^`]+)`", page.read_text())}
    assert used
    for line in used:
        check_tuneloop(shlex.split(line)[1:])


def test_an_alert_can_be_switched_off_and_its_page_has_a_whole_address() -> None:
    told = {"enabled": True, "disabledAlerts": ["TuneloopDrift"], "runbookBaseUrl": "https://docs.example.com/"}
    rules = [
        rule for item in render(values_of({"monitoring": told})) if item["kind"] == "PrometheusRule"
        for group in item["spec"]["groups"] for rule in group["rules"]
    ]
    found = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule}
    assert found.keys() == alerts().keys() - {"TuneloopDrift"}
    assert found["TuneloopDriftBlind"] == "https://docs.example.com/docs/runbook/drift.md#tuneloopdriftblind"
    assert all("{{ $labels" in rule["annotations"]["summary"] + rule["annotations"]["description"] or "expr" in rule
               for rule in rules if "alert" in rule), "Helm leaves Prometheus' own templates alone"


def test_thresholds_are_those_of_the_values_and_of_nothing_but_them() -> None:
    told = {"enabled": True, "thresholds": {"errorBudget": 0.001, "consumerLag": 5_000_000}}
    rules = [rule for item in render(values_of({"monitoring": told})) if item["kind"] == "PrometheusRule"
             for group in item["spec"]["groups"] for rule in group["rules"]]
    found = {rule["labels"]["name"]: rule["expr"] for rule in rules if rule.get("record") == "tuneloop_threshold"}
    assert (found["errorBudget"], found["lateBudget"]) == ("vector(0.001)", "vector(0.01)")
    assert float(found["consumerLag"].removeprefix("vector(").removesuffix(")")) == 5_000_000
    used = {name for rule in rules for name in re.findall(r'tuneloop_threshold{name="(\w+)"}', str(rule["expr"]))}
    assert used == set(found) == set(yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["thresholds"])


def test_the_absence_of_every_service_is_told() -> None:
    rules = [rule for group in yaml.safe_load((CHART / "rules" / "services.yaml").read_text())["groups"]
             for rule in group["rules"]]
    missed = {rule["labels"]["job"]: rule["expr"] for rule in rules if rule["alert"] == "TuneloopServiceAbsent"}
    # The agent's metrics come from the same pod as its engine's.
    assert missed == {job: f'absent(up{{job="{job}"}})' for job in SERVICES if job != "engine"}
    (down,) = [rule["expr"] for rule in rules if rule["alert"] == "TuneloopServiceDown"]
    assert set(re.findall(r"[a-z_]+(?=[|\"])", down.partition("~")[2])) == set(missed)


def test_nobody_is_told_of_the_absence_of_a_service_that_is_not_wanted() -> None:
    objects = render(values_of({"monitoring": {"enabled": True}, "evaluator": {"enabled": False}}))
    rules = [rule for item in objects if item["kind"] == "PrometheusRule"
             for group in item["spec"]["groups"] for rule in group["rules"]]
    absent = {rule["expr"] for rule in rules if rule.get("alert") == "TuneloopServiceAbsent"}
    assert 'absent(up{job="trainer"})' in absent
    assert 'absent(up{job="evaluator"})' not in absent
