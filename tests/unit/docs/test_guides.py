"""The guides to an installation: every command exists, and names what is there."""

import json
import re
from typing import Any

import helm_python
import pytest
import yaml

from shared.pipeline import parse_pipeline
from tests.support.chart import CHART, notes, pods, rendered, values_of, variant
from tests.support.commands import check_tuneloop, typed
from tests.support.dashboards import load

ROOT = CHART.parents[1]
GUIDES = ("README.md", "docs/deploy.md", "k8s/README.md", "docker/README.md")
DEPLOY = (ROOT / "docs/deploy.md").read_text()
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
# Services of others, as the guides install them.
FOREIGN = {("seaweedfs-s3", "8333"), ("kube-prometheus-stack-grafana", "80")}
every_guide = pytest.mark.parametrize("guide", GUIDES)


def commands(guide: str, program: str) -> list[list[str]]:
    """The words after a program's name, of each time that a guide runs it."""
    return [words[1:] for words in typed((ROOT / guide).read_text())
            if words[0].removeprefix(".venv/bin/") == program]


@pytest.mark.parametrize("guide", [*GUIDES, "docs/training.md", "docs/advisor.md"])
def test_tuneloop_has_the_commands(guide: str) -> None:
    for words in commands(guide, "tuneloop"):
        check_tuneloop(words)


@every_guide
def test_doors_lead_to_services_and_ports_that_are_there(guide: str) -> None:
    there = {(item["metadata"]["name"].replace("demo-tuneloop", "tuneloop"), str(port["port"]))
             for item in variant("small") if item["kind"] == "Service" for port in item["spec"]["ports"]}
    for words in commands(guide, "kubectl"):
        if "port-forward" in words:
            service, ports = words[words.index("port-forward") + 1:][:2]
            assert (service.removeprefix("service/"), ports.rpartition(":")[2]) in there | FOREIGN


@every_guide
def test_files_that_commands_name_are_there_or_made_by_one_before(guide: str) -> None:
    text = (ROOT / guide).read_text()
    made = set(re.findall(r"> (\S+)", text)) | set(re.findall(r"^ *# (\S+\.yaml)$", text, re.MULTILINE))
    for words in typed(text):
        for word in words:
            if re.fullmatch(r"(?:k8s|charts|docker|examples)/\S+", word) and "$" not in word and "=" not in word:
                assert (ROOT / word).exists() or word == "docker/.env", word
            elif re.fullmatch(r"[\w-]+\.(?:jsonl|yaml)", word) and guide == "docs/deploy.md":
                assert word in made, word


@every_guide
def test_modules_that_commands_run_are_there(guide: str) -> None:
    for words in typed((ROOT / guide).read_text()):
        for word in words:
            if re.fullmatch(r"(?:services|shared)(?:\.\w+)+", word):
                path = ROOT / word.replace(".", "/")
                assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), word


def reaches(schema: dict[str, Any], path: list[str]) -> bool:
    """Whether values may have something at a path; `*` is anything."""
    while "$ref" in schema:
        node: Any = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        schema = node
    if not path:
        return True
    own = schema.get("properties", {})
    if path[0] in ("*", "<service>"):
        return not path[1:] or any(reaches(inner, path[1:]) for inner in own.values())
    if path[0] in own:
        return reaches(own[path[0]], path[1:])
    return schema.get("additionalProperties") not in (False, None) or schema == {"type": "object"}


def test_values_that_the_guide_names_are_values_of_the_chart() -> None:
    named = set(re.findall(r"`((?:[a-z]\w*|\*|<service>)(?:\.(?:[a-zA-Z]\w*|\*))+)(?::[^`]*)?`", DEPLOY))
    tops = {*SCHEMA["properties"], "*", "<service>"}
    asked = {name for name in named if name.split(".")[0] in tops}
    assert {"serving.server.resources", "networkPolicy.egress.s3.ports", "trainer.settings.maxConcurrentRuns"} <= asked
    # Kafka's client logs under that name.
    assert {name for name in asked if not reaches(SCHEMA, name.split("."))} == {"kafka.net"}


def values_in(page: str) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"^ *```yaml\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)]


def test_the_guide_s_own_values_install_and_close_no_door() -> None:
    own, *others = values_in(DEPLOY)
    assert "networkPolicy.egress." not in notes(rendered(values_of("gpu", own)))
    assert [*others[0], *others[1]] == ["kafka", "networkPolicy", "s3", "defaults", "defaults", "serving"]
    with helm_python.Chart.load(str(CHART)) as chart:
        for values in others:
            chart.validate_schema(values_of("gpu", own, values))


def test_the_first_canary_fits_what_the_guide_installs() -> None:
    spec = parse_pipeline((ROOT / "examples/first-canary.yaml").read_text(), source="first-canary").spec
    own = values_in(DEPLOY)[0]
    assert spec.base_model == own["serving"]["baseModel"] == values_of("small")["serving"]["baseModel"]
    assert spec.training.lora.rank <= values_of("gpu")["serving"]["maxLoraRank"]
    (name,) = set(re.findall(r"--pipeline (\S+)", DEPLOY))
    assert f"example traffic {name} " in DEPLOY
    assert f"rollouts get {name}-r1 -w" in DEPLOY


def test_what_the_production_values_name_is_in_the_guide() -> None:
    """Kubernetes refuses pods that name a missing class, and keeps those waiting whose secret is missing."""
    named = {pod.spec.get("priorityClassName", "") for pod in pods(variant("production"))}
    values = values_of("gpu", "production")
    named |= {*values["images"]["pullSecrets"], values["jobs"]["queue"], values["jobs"]["cacheClaim"]}
    named |= set(re.findall(r"'existingSecret': '([^']+)'", str(values)))
    assert {"serving", "training", "tuneloop-webhooks", "llm-example-com-tls"} <= named
    assert {name for name in named - {""} if f"`{name}`" not in DEPLOY and f" {name} " not in DEPLOY} == set()


def test_dashboards_are_where_the_guide_sends_people() -> None:
    sent = set(re.findall(r"127\.0\.0\.1:3000/d/([\w-]+)", DEPLOY))
    assert sent
    assert sent <= {dashboard["uid"] for dashboard in load().values()}
