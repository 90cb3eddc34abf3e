"""k8s/: overlays build, built-in kinds are valid, and what one object or document uses of another exists."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shared.events.topics import declared

FOLDER = Path(__file__).parents[3] / "k8s"
KUBECTL = Path(sys.executable).parent / "kubectl"
OVERLAYS = ("small", "gpu")
BUILT_IN = re.compile(r"^(v1|(apps|batch|policy)/v1|networking\.k8s\.io/v1)$")
# The secrets that k8s/README.md has a person make, with their keys.
SECRETS = {
    "tuneloop-s3": {"access-key", "secret-key"},
    "tuneloop-postgres": {"password"},
    "tuneloop-database": {"data-ingest", "trainer", "evaluator", "registry", "rollout", "drift"},
    "grafana-admin": {"admin-user", "admin-password"},
}


@cache
def built(overlay: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [KUBECTL, "kustomize", str(FOLDER / "overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [item for item in built(overlay) if item["kind"] == kind]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_built_in_kinds_are_valid_in_strict_mode(overlay: str) -> None:
    validated = [item for item in built(overlay) if BUILT_IN.match(item["apiVersion"])]
    assert len(validated) >= 7
    for item in validated:
        kubernetes_validate.validate(item, "1.32", strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_topics_are_those_of_the_code_on_as_many_brokers_as_there_are(overlay: str) -> None:
    (pool,) = of_kind(overlay, "KafkaNodePool")
    (kafka,) = of_kind(overlay, "Kafka")
    topics = {item["metadata"]["name"]: item for item in of_kind(overlay, "KafkaTopic")}
    assert set(topics) == set(declared())
    for name, item in topics.items():
        assert item["metadata"]["labels"]["strimzi.io/cluster"] == kafka["metadata"]["name"]
        assert item["metadata"]["namespace"] == kafka["metadata"]["namespace"]
        assert item["spec"]["replicas"] <= pool["spec"]["replicas"]
        assert item["spec"]["partitions"] == declared()[name].partitions
        assert item["spec"]["config"] == declared()[name].config()
    factors = {v for k, v in kafka["spec"]["kafka"]["config"].items() if k.endswith("replication.factor")}
    assert factors == {pool["spec"]["replicas"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_may_do_nothing_that_they_need_not(overlay: str) -> None:
    sets = of_kind(overlay, "StatefulSet")
    assert {item["metadata"]["name"] for item in sets} == {"seaweedfs", "postgres"}
    for item in sets:
        pod = item["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert ":" in container["image"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_that_objects_use_of_each_other_exist(overlay: str) -> None:
    namespaces = {item["metadata"]["name"] for item in of_kind(overlay, "Namespace")}
    assert {item["metadata"]["namespace"] for item in built(overlay) if "namespace" in item["metadata"]} <= namespaces
    pods = {item["metadata"]["name"]: item["spec"]["template"] for item in of_kind(overlay, "StatefulSet")}
    for service in of_kind(overlay, "Service"):
        selector = service["spec"]["selector"].items()
        (template,) = [pod for pod in pods.values() if selector <= pod["metadata"]["labels"].items()]
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    configs = {item["metadata"]["name"] for item in of_kind(overlay, "ConfigMap")}
    for template in pods.values():
        used = {v["configMap"]["name"] for v in template["spec"]["volumes"] if "configMap" in v}
        assert used <= configs
        for variable in template["spec"]["containers"][0]["env"]:
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            assert source is None or source["key"] in SECRETS[source["name"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_given(overlay: str) -> None:
    assert of_kind(overlay, "Secret") == []


def test_kueues_objects_fit_together() -> None:
    kinds = ("LocalQueue", "ClusterQueue", "ResourceFlavor")
    (queue,), (cluster,), (flavor,) = (of_kind("gpu", kind) for kind in kinds)
    assert queue["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    (group,) = cluster["spec"]["resourceGroups"]
    (chosen,) = group["flavors"]
    assert chosen["name"] == flavor["metadata"]["name"]
    assert [resource["name"] for resource in chosen["resources"]] == group["coveredResources"]
    selected = cluster["spec"]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert selected == queue["metadata"]["namespace"]


def test_monitoring_speaks_of_the_release_that_the_guide_makes() -> None:
    guide = (FOLDER / "README.md").read_text()
    monitor = yaml.safe_load((FOLDER / "monitoring/kafka.yaml").read_text())
    release = monitor["metadata"]["labels"]["release"]
    assert f"upgrade --install {release} " in guide
    values = yaml.safe_load((FOLDER / "monitoring/values.yaml").read_text())
    admin = values["grafana"]["admin"]
    assert {admin["userKey"], admin["passwordKey"]} == SECRETS[admin["existingSecret"]]


def test_the_guide_makes_every_secret_and_names_files_that_exist() -> None:
    guide = (FOLDER / "README.md").read_text()
    for name, keys in SECRETS.items():
        (command,) = set(re.findall(rf"create secret generic {name} ((?:.*\\\n)*.*)", guide)) or {""}
        assert set(re.findall(r"--from-literal=([\w-]+)=", command)) == keys, name
    for path in re.findall(r"\bk8s/[\w./-]+\w", guide):
        assert (FOLDER.parent / path).exists(), path
