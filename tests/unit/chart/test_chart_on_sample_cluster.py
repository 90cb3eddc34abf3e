"""k8s/ and the chart fit together: what values-small.yaml speaks of is what the sample cluster brings."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.chart import CHART, pods, render, values_of, variant

ROOT = CHART.parents[1]
GUIDE = (ROOT / "k8s" / "README.md").read_text()
NAMESPACES = {"kafka": "tuneloop", "storage": "storage"}


def objects_in(folder: str) -> list[dict[str, Any]]:
    return [item for path in sorted((ROOT / "k8s" / "base" / folder).glob("*.yaml"))
            for item in yaml.safe_load_all(path.read_text()) if "kind" in item]


def variables(name: str) -> list[dict[str, Any]]:
    return [item for pod in pods(variant(name)) for container in pod.containers for item in container.get("env", [])]


def value(name: str, variable: str) -> str:
    (found,) = {item["value"] for item in variables(name) if item["name"] == variable}
    return str(found)


def test_s3_is_where_the_services_look_and_where_they_may_go() -> None:
    url = urlsplit(value("small", "TUNELOOP_S3_ENDPOINT"))
    services = {f"{item['metadata']['name']}.{NAMESPACES['storage']}": item["spec"]["ports"]
                for item in objects_in("storage") if item["kind"] == "Service"}
    assert url.port in {port["port"] for port in services[str(url.hostname)]}
    assert values_of("small")["networkPolicy"]["egress"]["s3"]["ports"] == [url.port]


def test_kafka_is_where_the_services_look() -> None:
    (kafka,) = [item for item in objects_in("kafka") if item["kind"] == "Kafka"]
    (listener,) = kafka["spec"]["kafka"]["listeners"]
    # Strimzi's name for the Service of a cluster, which is in the release's own namespace here.
    expected = f"{kafka['metadata']['name']}-kafka-bootstrap:{listener['port']}"
    assert value("small", "TUNELOOP_KAFKA_BOOTSTRAP") == expected
    assert listener["tls"] is False


def test_the_topics_that_keda_looks_at_are_declared() -> None:
    declared = {item["metadata"]["name"] for item in objects_in("kafka") if item["kind"] == "KafkaTopic"}
    looked_at = {trigger["metadata"]["topic"] for item in render({"defaults": {"keda": {"enabled": True}}})
                 if item["kind"] == "ScaledObject" for trigger in item["spec"]["triggers"]}
    assert looked_at <= declared


def made_by(page: str) -> set[tuple[str, str]]:
    """Secrets and keys that a page's commands make."""
    found = set()
    for command in re.findall(r"create secret generic ((?:[^\n]*\\\n)*[^\n]*)", page):
        name = command.split()[0]
        found |= {(name, key) for key in re.findall(r"--from-literal=([\w-]+)=", command)}
        found |= {(name, key) for key in re.findall(r"--from-file=([\w.-]+)", command.partition("`")[0])}
    return found


@pytest.mark.parametrize("page", ["k8s/README.md", "docs/deploy.md"])
def test_the_guides_make_every_secret_that_the_services_read(page: str) -> None:
    used = {(reference["name"], reference["key"]) for item in variables("small")
            if (reference := item.get("valueFrom", {}).get("secretKeyRef"))}
    assert used <= made_by((ROOT / page).read_text())


def test_every_database_of_the_guide_is_made() -> None:
    script = (ROOT / "k8s/base/storage/databases.sql").read_text()
    made = set(re.findall(r"^CREATE DATABASE (\w+)", script, re.MULTILINE))
    assert set(re.findall(r"postgres\.storage:5432/(\w+)", GUIDE)) == made


def test_the_guide_installs_what_there_is() -> None:
    files = re.findall(r"--values (charts/\S+)", GUIDE)
    assert files
    for file in files:
        assert (ROOT / file).exists()
    settings = re.findall(r"--set '?([\w.]+)=(\{?[^\s'}]+)", GUIDE)
    told: dict[str, Any] = {}
    for key, setting in settings:
        if key.split(".")[0] not in yaml.safe_load((CHART / "values.yaml").read_text()):
            continue
        inner = told
        for part in key.split(".")[:-1]:
            inner = inner.setdefault(part, {})
        inner[key.split(".")[-1]] = [int(setting.lstrip("{"))] if setting.startswith("{") else setting
    assert render(values_of("gpu", told))


def test_the_claim_and_the_queue_of_the_gpu_overlay_are_those_of_the_guide_and_of_production() -> None:
    overlay = [item for path in (ROOT / "k8s/overlays/gpu").glob("*.yaml") for item in
               yaml.safe_load_all(path.read_text())]
    names = {(item.get("kind"), item.get("metadata", {}).get("name")) for item in overlay}
    production = values_of("production")["jobs"]
    assert ("PersistentVolumeClaim", production["cacheClaim"]) in names
    assert {("LocalQueue", production["queue"])} <= names
