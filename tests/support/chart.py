"""The Helm chart, rendered by Helm's own SDK, and what its objects mean to each other."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "charts" / "tuneloop"
RELEASE, NAMESPACE = "demo", "ml"
KUBERNETES = "1.30"

# What no value file turns on, so that the tests see every branch of the templates.
EVERYTHING: dict[str, Any] = {
    "fullnameOverride": "loop",
    "commonLabels": {"team": "models"},
    "images": {"registry": "registry.example.com/ml", "pullSecrets": ["pull"],
               "vllm": {"digest": "sha256:" + "a" * 64}, "trainer": {"tag": "v9"}},
    "kafka": {"securityProtocol": "SASL_SSL",
              "tls": {"ca": {"existingSecret": "cluster-ca"}, "existingSecret": "kafka-user"},
              "sasl": {"username": "tuneloop", "existingSecret": "kafka-user"}},
    "s3": {"existingSecret": "", "ca": {"existingSecret": "company-ca", "key": "tls.crt"}},
    "tracing": {"otlpEndpoint": "http://collector:4318"},
    "defaults": {
        "settings": {"reconcileIntervalSeconds": 2},
        "extraEnv": [{"name": "AWS_CA_BUNDLE", "value": "/ca/ca.crt"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
        "podLabels": {"sidecar": "no"}, "podAnnotations": {"note": "yes"}, "priorityClassName": "high",
        "nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "keda": {"enabled": True},
    },
    "dataIngest": {"work": {"claim": True, "storageClassName": "fast"}, "settings": {"maxUploadBytes": 1073741824}},
    "trainer": {"serviceAccount": {"create": False, "name": "existing"},
                "settings": {"maxConcurrentRuns": 4, "trackers": ["mlflow", "wandb"]}},
    "evaluator": {"settings": {"evaluationTimeoutSeconds": 7200, "jobStartSeconds": 60}},
    "rollout": {"webhooks": {"existingSecret": "hooks", "hosts": ["*.example.com", "ci.ci"]},
                "notifications": [{"name": "ops", "urlFrom": "slack", "events": ["promoted"]}],
                "trafficBackend": "inference-model-rewrite", "inferencePools": {"tiny": "vllm-tiny"},
                "settings": {"rewriteCheckSeconds": 60}},
    "drift": {"embeddings": {"existingSecret": "embeddings"}, "settings": {
        "embeddingsUrl": "https://embeddings.example.com", "embeddingsModel": "small",
    }},
    "gateway": {"apiKeys": {"existingSecret": "keys"}, "settings": {"maxInFlight": 2000},
                "autoscaling": {"enabled": True}, "podDisruptionBudget": {"maxUnavailable": "25%"}},
    "serving": {
        "replicas": 2, "runtimeClassName": "nvidia", "cache": {"persistent": True, "storageClassName": "fast"},
        "vllm": {"arguments": ["--chat-template", "/ca/with space.jinja"], "settings": {"enforceEager": True}},
        "server": {"extraEnv": [{"name": "NCCL_DEBUG", "value": "INFO"}]},
    },
    "jobs": {"hardware": {"a100": {"nodeSelector": {"gpu": "a100"}, "tolerations": [{"operator": "Exists"}]}},
             "env": {"NCCL_DEBUG": "INFO", "MLFLOW_TRACKING_URI": "http://mlflow:5000"}, "existingSecrets": ["wandb"],
             "queue": "training", "cacheClaim": "models", "priorityClassName": "low"},
    "ingress": {"enabled": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}],
                  "hostnames": ["llm.example.com"], "timeouts": {"request": "0s"}},
    "monitoring": {"enabled": True, "disabledAlerts": ["TuneloopDrift"], "runbookBaseUrl": "https://docs.example.com/"},
    "dashboards": {"enabled": True},
    "networkPolicy": {"egress": {"webhooks": {"ports": [8442, 8443]}, "trackers": {"ports": [443, 5000]}},
                      "modelServerClients": [{"namespaceSelector": {"matchLabels": {"name": "llm-d"}}}]},
}
VARIANTS: dict[str, list[str | dict[str, Any]]] = {
    "defaults": [], "small": ["small"], "gpu": ["gpu"], "production": ["gpu", "production"],
    "everything": [EVERYTHING],
}


@dataclass(frozen=True)
class PodTemplate:
    """A pod as an object describes it."""

    owner: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for c in self.containers for port in c.get("ports", [])}


def values_of(*parts: str | Mapping[str, Any]) -> dict[str, Any]:
    """Values as `helm install --values` merges them: names of value files, and values."""
    merged: dict[str, Any] = {}
    for part in parts:
        told = yaml.safe_load((CHART / f"values-{part}.yaml").read_text()) if isinstance(part, str) else part
        _merge(merged, told)
    return merged


def _merge(into: dict[str, Any], told: Mapping[str, Any]) -> None:
    for key, value in told.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def render(
    values: Mapping[str, Any], chart: Path = CHART, *, release: str = RELEASE, namespace: str = NAMESPACE
) -> list[dict[str, Any]]:
    """All objects of the chart with these values.

    Raises:
        helm_python.HelmError: with Helm's own message.
    """
    return _objects(rendered(values, chart, release=release, namespace=namespace))


def rendered(
    values: Mapping[str, Any], chart: Path = CHART, *, release: str = RELEASE, namespace: str = NAMESPACE
) -> dict[str, str]:
    """The text of each template by its path, as `render` makes objects of it."""
    with helm_python.Chart.load(str(chart)) as loaded:
        files: dict[str, str] = loaded.render(dict(values), name=release, namespace=namespace)
    return files


def _objects(files: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        found for path, text in files.items() if path.endswith(".yaml")
        for found in yaml.load_all(text, _StrictLoader) if found
    ]


@cache
def _variant_files(name: str) -> dict[str, str]:
    return rendered(values_of(*VARIANTS[name]))


@cache
def variant(name: str) -> tuple[dict[str, Any], ...]:
    """The objects of one of `VARIANTS`; not to be changed."""
    return tuple(_objects(_variant_files(name)))


def notes(files: Mapping[str, str] | str) -> str:
    """What Helm says after an install, of rendered files or of one of `VARIANTS`."""
    known = _variant_files(files) if isinstance(files, str) else files
    (text,) = [text for path, text in known.items() if path.endswith("NOTES.txt")]
    return text


def pods(objects: tuple[dict[str, Any], ...]) -> Iterator[PodTemplate]:
    """Every pod that the objects make or are."""
    for item in objects:
        owner = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Pod":
            yield PodTemplate(owner, item["metadata"]["labels"], item["spec"])
        elif item["kind"] in {"Deployment", "StatefulSet", "Job"}:
            template = item["spec"]["template"]
            yield PodTemplate(owner, template["metadata"]["labels"], template["spec"])


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects; only matchLabels are understood."""
    assert set(selector) <= {"matchLabels"}, selector
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


class _StrictLoader(yaml.CSafeLoader):
    """A key that stands twice is an error: PyYAML would take the last, Kubernetes refuses the object.

    On libyaml: PyYAML's own parser takes ten times as long, and a chart has a hundred objects.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"keys that stand twice: {twice}, {node.start_mark}")
        return super().construct_mapping(node, deep)


# API group, resource and verb.
Right = tuple[str, str, str]


def rights_of(rules: Iterable[Mapping[str, Any]]) -> set[Right]:
    """What the rules of a Role allow."""
    return {(group, resource, verb) for rule in rules for group in rule["apiGroups"]
            for resource in rule["resources"] for verb in rule["verbs"]}


def role(objects: Iterable[dict[str, Any]], service: str) -> set[Right]:
    """What a service may ask of Kubernetes, as the chart has it; nothing where it has no Role."""
    roles = [item for item in objects
             if item["kind"] == "Role" and item["metadata"]["labels"]["app.kubernetes.io/component"] == service]
    return {right for item in roles for right in rights_of(item["rules"])}


def documented_rights(page: str) -> set[Right]:
    """The Role that a page of the documentation tells people to make."""
    text = (CHART.parents[1] / "docs" / page).read_text()
    (block,) = re.findall(r"^```yaml\n(rules:\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return rights_of(yaml.safe_load(block)["rules"])
