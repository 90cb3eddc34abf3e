"""The rules of security that every pod of the chart keeps, whatever the values."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.support.chart import CHART, VARIANTS, PodTemplate, documented_rights, pods, role, variant

EVERY_POD = [pytest.param(pod, id=f"{name}: {pod.owner}") for name in VARIANTS for pod in pods(variant(name))]
every_pod = pytest.mark.parametrize("pod", EVERY_POD)


@every_pod
def test_nobody_is_root_or_may_become_it(pod: PodTemplate) -> None:
    context = pod.spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] >= 10000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod.containers:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert {"privileged", "runAsUser", "runAsNonRoot", "seccompProfile"}.isdisjoint(own)


@every_pod
def test_the_root_file_system_is_read_only_and_nothing_of_the_node_is_mounted(pod: PodTemplate) -> None:
    for container in pod.containers:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert not [port for port in container.get("ports", []) if "hostPort" in port]
    assert {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"}.isdisjoint(pod.spec)
    assert not [volume for volume in pod.spec.get("volumes", []) if "hostPath" in volume]


@every_pod
def test_everything_that_may_be_written_to_has_a_bound_but_tmp(pod: PodTemplate) -> None:
    for volume in pod.spec.get("volumes", []):
        if "emptyDir" in volume and volume["name"] != "tmp":
            assert volume["emptyDir"]["sizeLimit"]


@every_pod
def test_every_container_says_what_it_needs_and_what_memory_it_may_use(pod: PodTemplate) -> None:
    for container in pod.containers:
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), container["name"]
        assert "memory" in container["resources"]["limits"], container["name"]


@every_pod
def test_only_who_has_something_to_ask_may_talk_to_kubernetes(pod: PodTemplate) -> None:
    told = {variable["name"]: variable.get("value") for c in pod.containers for variable in c.get("env", [])}
    asks = "TUNELOOP_LAUNCHER" in told or told.get("TUNELOOP_TRAFFIC_BACKEND") == "inference-model-rewrite"
    assert pod.spec["automountServiceAccountToken"] is asks


@every_pod
def test_no_service_of_the_namespace_becomes_a_setting(pod: PodTemplate) -> None:
    """A Service called tuneloop-gateway would put TUNELOOP_GATEWAY_PORT into every pod, which no service knows."""
    assert pod.spec["enableServiceLinks"] is False


@pytest.mark.parametrize("name", VARIANTS)
def test_rights_are_those_that_are_documented_in_their_own_namespace(name: str) -> None:
    """tests/integration/kubernetes says that the services ask for all of these and for nothing else."""
    objects = variant(name)
    assert not [item for item in objects if item["kind"].startswith("ClusterRole")]
    assert not [item for item in objects if item["kind"] == "Role" and "namespace" in item["metadata"]]
    wanted = dict.fromkeys(("trainer", "evaluator"), documented_rights("jobs.md"))
    if name == "everything":
        wanted["rollout"] = documented_rights("rollouts.md")
    services = [item["metadata"]["labels"]["app.kubernetes.io/component"] for item in objects if item["kind"] == "Role"]
    assert sorted(services) == sorted(wanted)
    assert {service: role(objects, service) for service in services} == wanted


@pytest.mark.parametrize("name", VARIANTS)
def test_secrets_are_named_and_never_given(name: str) -> None:
    for item in variant(name):
        assert item["kind"] != "Secret"
        for variable in _variables(item):
            if re.search(r"SECRET_KEY|ACCESS_KEY|DATABASE_URL|PASSWORD|TOKEN", variable["name"]):
                # The agent's own file is no secret.
                assert "value" not in variable or variable["value"].startswith("sqlite:")


def test_no_value_has_the_name_of_a_secret() -> None:
    def keys(told: Any) -> list[str]:
        return [name for key, value in told.items() for name in [key, *keys(value)]] if isinstance(told, dict) else []

    for path in CHART.glob("values*.yaml"):
        for key in keys(yaml.safe_load(path.read_text())):
            # secretKeyKey and passwordKey are names of keys in a secret.
            is_secret = re.search(r"password(?!Key)|token|secret(?!KeyKey)|credential", key, re.IGNORECASE)
            assert not is_secret or key in {"existingSecret", "existingSecrets", "pullSecrets"}, f"{path.name}: {key}"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_pod_is_under_a_network_policy_for_both_ways(name: str) -> None:
    policies = [item["spec"] for item in variant(name) if item["kind"] == "NetworkPolicy"]
    for pod in pods(variant(name)):
        own = [p for p in policies if p["podSelector"]["matchLabels"].items() <= pod.labels.items()]
        assert [p["policyTypes"] for p in own] == [["Ingress", "Egress"]], pod.owner


def test_nobody_from_outside_reaches_anything_but_the_gateway() -> None:
    for item in variant("defaults"):
        if item["kind"] != "NetworkPolicy":
            continue
        open_doors = [rule for rule in item["spec"].get("ingress", []) if not rule.get("from")]
        is_gateway = item["metadata"]["labels"]["app.kubernetes.io/component"] == "gateway"
        assert len(open_doors) == (1 if is_gateway else 0), item["metadata"]["name"]


def test_loading_adapters_by_hand_is_for_nobody_but_the_pod_itself_and_gateways() -> None:
    (policy,) = [item for item in variant("production")
                 if item["kind"] == "NetworkPolicy" and item["metadata"]["name"].endswith("-serving")]
    who = {json.dumps(peer, sort_keys=True) for rule in policy["spec"]["ingress"]
           if {"protocol": "TCP", "port": "engine"} in rule["ports"] for peer in rule["from"]}
    components = {json.loads(peer).get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
                  for peer in who}
    assert components == {"gateway", "test", None}
    namespaces = {json.loads(peer)["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                  for peer in who if "namespaceSelector" in peer}
    assert namespaces == {"monitoring"}


def test_who_else_may_ask_model_servers_is_named() -> None:
    (policy,) = [item for item in variant("everything")
                 if item["kind"] == "NetworkPolicy" and item["metadata"]["name"].endswith("-serving")]
    peers = [peer for rule in policy["spec"]["ingress"] if rule["ports"] == [{"protocol": "TCP", "port": "engine"}]
             for peer in rule["from"]]
    assert {"namespaceSelector": {"matchLabels": {"name": "llm-d"}}} in peers


def _variables(item: Any) -> list[dict[str, Any]]:
    if isinstance(item, dict):
        own = item["env"] if isinstance(item.get("env"), list) else []
        return own + [found for value in item.values() for found in _variables(value)]
    return [found for value in item for found in _variables(value)] if isinstance(item, list) else []


@pytest.mark.parametrize(("name", "ports"), [("defaults", {443}), ("small", {8333}), ("everything", {443, 5000})])
def test_jobs_reach_s3_and_trackers_only_where_runs_are_tracked(name: str, ports: set[int]) -> None:
    [policy] = [item["spec"] for item in variant(name)
                if item["kind"] == "NetworkPolicy" and item["metadata"]["name"].endswith("-job")]
    assert {port["port"] for rule in policy["egress"] for port in rule.get("ports", [])} - {53} == ports


@pytest.mark.parametrize(("name", "ports"), [
    ("defaults", set()), ("production", {443}), ("everything", {443, 8442, 8443}),  # there 443 is Kubernetes' API
])
def test_the_rollout_service_calls_webhooks_only_where_that_was_asked_for(name: str, ports: set[int]) -> None:
    [policy] = [item["spec"] for item in variant(name)
                if item["kind"] == "NetworkPolicy" and item["metadata"]["name"].endswith("-rollout")]
    reached = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert reached & {80, 443, 8442, 8443} == ports
