"""What the chart renders is what Kubernetes and the operators accept."""

import json
import shutil
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from tests.support.chart import CHART, EVERYTHING, KUBERNETES, VARIANTS, render, values_of, variant
from tests.support.custom_resources import CUSTOM, check_custom

every_variant = pytest.mark.parametrize("name", VARIANTS)


@every_variant
def test_helm_finds_nothing_to_complain_of(name: str) -> None:
    report = helm_python.lint(str(CHART), values_of(*VARIANTS[name]), strict=True, namespace="ml")
    complaints = [message for message in report["messages"] if message["severity"] > 1]
    assert (complaints, report["errors"]) == ([], [])


@every_variant
def test_kubernetes_accepts_every_object(name: str) -> None:
    for item in variant(name):
        if item["apiVersion"] in CUSTOM:
            check_custom(item)
        else:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_every_kind_is_rendered_somewhere() -> None:
    kinds = {item["kind"] for name in VARIANTS for item in variant(name)}
    assert kinds == {
        "Deployment", "StatefulSet", "Service", "ServiceAccount", "Role", "RoleBinding", "PodDisruptionBudget",
        "HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication", "NetworkPolicy", "Ingress", "HTTPRoute",
        "ServiceMonitor", "PodMonitor", "Job", "Pod", *({"PrometheusRule"} if any(CHART.glob("rules/*.yaml")) else ()),
        *({"ConfigMap"} if any(CHART.glob("dashboards/*.json")) else ()),
    }


@every_variant
def test_no_two_objects_have_one_name(name: str) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in variant(name)]
    assert len(set(names)) == len(names)


@every_variant
def test_every_object_says_whose_it_is(name: str) -> None:
    for item in variant(name):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "demo"
        assert labels["app.kubernetes.io/part-of"] == "tuneloop"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_common_labels_are_on_every_object_and_in_no_selector() -> None:
    for item in variant("everything"):
        assert item["metadata"]["labels"]["team"] == "models"
        assert "team" not in json.dumps(item.get("spec", {}).get("selector", {}))


def test_a_release_name_of_any_length_gives_names_that_kubernetes_takes() -> None:
    with helm_python.Chart.load(str(CHART)) as chart:
        files = chart.render({}, name="x" * 53, namespace="ml")
    for text in files.values():
        for item in yaml.safe_load_all(text if "kind:" in text else ""):
            assert item is None or len(item["metadata"]["name"]) <= 63


def test_dashboards_and_rules_are_taken_as_they_are_from_their_folders(tmp_path: Path) -> None:
    chart = tmp_path / "tuneloop"
    shutil.copytree(CHART, chart)
    for folder in ("dashboards", "rules"):
        shutil.rmtree(chart / folder, ignore_errors=True)
        (chart / folder).mkdir()
    dashboard = {"title": "Loop", "panels": [{"legendFormat": "{{model_version}}", "text": "a \"b\"\n\nc"}]}
    (chart / "dashboards" / "loop.json").write_text(json.dumps(dashboard, indent=2))
    rules = {"groups": [{"name": "g", "rules": [
        {"alert": "Down", "expr": "up == 0", "for": "5m", "annotations": {"summary": "{{ $labels.job }} is down"}},
    ]}]}
    (chart / "rules" / "loop.yaml").write_text("# What wakes somebody.\n" + yaml.safe_dump(rules))
    objects = render(EVERYTHING, chart)
    (found,) = [item for item in objects if item["kind"] == "ConfigMap"]
    assert json.loads(found["data"]["loop.json"]) == dashboard
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    (rule,) = [item for item in objects if item["kind"] == "PrometheusRule"]
    assert rule["spec"] == rules
    check_custom(rule)
    assert {found["metadata"]["name"], rule["metadata"]["name"]} == {"loop-dashboard-loop", "loop-loop-rules"}


@pytest.mark.parametrize(("values", "gone"), [
    ({"trainer": {"enabled": False}, "evaluator": {"enabled": False}}, ("trainer", "evaluator", "-job")),
    ({"serving": {"enabled": False}}, ("serving",)),
    ({"gateway": {"enabled": False}, "ingress": {"enabled": True}}, ("gateway",)),
])
def test_a_service_that_is_not_wanted_leaves_nothing_behind(values: dict[str, Any], gone: tuple[str, ...]) -> None:
    for item in render(values_of("gpu", values)):
        # Neither policies, rules nor dashboards are of one service: they say what is true of it where it is.
        if item["kind"] == "ConfigMap":
            continue
        if item["kind"] not in ("NetworkPolicy", "PrometheusRule"):
            assert not [name for name in gone if name in json.dumps(item)], item["metadata"]["name"]
        assert not [name for name in gone if item["metadata"]["name"].endswith(name)]


def test_model_servers_alone_are_a_release_too() -> None:
    """A second base model: the same chart, with nothing but its servers. The first release's rules watch them, too."""
    objects = render(values_of("gpu", {"defaults": {"enabled": False}, "serving": {"enabled": True}}))
    assert {item["kind"] for item in objects} == {
        "StatefulSet", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "Pod",
    }
    assert {item["metadata"]["name"].rpartition("-")[2] for item in objects if item["kind"] == "NetworkPolicy"} == {
        "serving", "test",
    }


def test_a_default_can_be_taken_away_with_null() -> None:
    """As OpenShift wants it, which gives users to pods itself."""
    nothing = {"defaults": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}}
    for item in render(nothing):
        if item["kind"] == "Deployment":
            assert "runAsUser" not in item["spec"]["template"]["spec"]["securityContext"]
            assert item["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
