"""What every service has, whichever it is: budget, spread, account, policy and monitor, none of them forgotten."""

from typing import Any

import pytest

from tests.support.chart import CHART, VARIANTS, matches, pods, variant

Objects = tuple[dict[str, Any], ...]
SERVICES = {"data-ingest", "trainer", "evaluator", "registry", "rollout", "drift", "gateway", "serving"}
WORKLOADS = [
    pytest.param(name, item, id=f"{name}: {item['metadata']['labels']['app.kubernetes.io/component']}")
    for name in VARIANTS for item in variant(name) if item["kind"] in {"Deployment", "StatefulSet"}
]
every_workload = pytest.mark.parametrize(("name", "item"), WORKLOADS)


def labels_of(item: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = item["spec"]["template"]["metadata"]["labels"]
    return found


def of_kind(name: str, *kinds: str) -> list[dict[str, Any]]:
    return [item for item in variant(name) if item["kind"] in kinds]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_service_is_there(name: str) -> None:
    found = {labels_of(item)["app.kubernetes.io/component"] for item in of_kind(name, "Deployment", "StatefulSet")}
    assert found == SERVICES
    modules = {path.parent.name for path in (CHART.parents[1] / "services").glob("*/__main__.py")}
    assert {service.replace("-", "_") for service in SERVICES} == modules - {"cli"}


def test_pods_go_where_the_defaults_send_them_those_of_no_service_too() -> None:
    for pod in pods(variant("everything")):
        assert pod.spec["nodeSelector"] == {"disk": "fast"}, pod.owner
        assert pod.spec["tolerations"] == [{"key": "spot", "operator": "Exists"}], pod.owner


def test_migrations_have_the_environment_of_their_services() -> None:
    """A proxy, or how a database is reached, is the same for both."""
    (job,) = of_kind("everything", "Job")
    for container in job["spec"]["template"]["spec"]["containers"]:
        assert {"name": "AWS_CA_BUNDLE", "value": "/ca/ca.crt"} in container["env"]


@every_workload
def test_a_drain_takes_its_pods_by_a_budget(name: str, item: dict[str, Any]) -> None:
    (budget,) = [b for b in of_kind(name, "PodDisruptionBudget") if matches(b["spec"]["selector"], labels_of(item))]
    assert budget["spec"]["maxUnavailable"]


@every_workload
def test_its_pods_are_spread_among_themselves(name: str, item: dict[str, Any]) -> None:
    constraints = item["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert "kubernetes.io/hostname" in {constraint["topologyKey"] for constraint in constraints}
    for constraint in constraints:
        counted = [other for other in of_kind(name, "Deployment", "StatefulSet")
                   if matches(constraint["labelSelector"], labels_of(other))]
        assert counted == [item]


@every_workload
def test_its_account_is_its_own(name: str, item: dict[str, Any]) -> None:
    accounts = [other["spec"]["template"]["spec"]["serviceAccountName"]
                for other in of_kind(name, "Deployment", "StatefulSet")]
    assert accounts.count(item["spec"]["template"]["spec"]["serviceAccountName"]) == 1


@every_workload
def test_it_is_scraped_wherever_anything_is(name: str, item: dict[str, Any]) -> None:
    monitors = of_kind(name, "ServiceMonitor", "PodMonitor")
    found = [monitor for monitor in monitors if matches(monitor["spec"]["selector"], labels_of(item))]
    assert len(found) == (1 if monitors else 0)
