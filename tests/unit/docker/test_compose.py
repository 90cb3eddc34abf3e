"""The compose file: every name that one service uses of another exists, and every service takes its settings."""

import importlib.util
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from docs.settings import SERVICES, settings_class

FOLDER = Path(__file__).parents[3] / "docker"
OWN_PORTS = {"kafka": 9092, "s3": 8333, "postgres": 5432, "prometheus": 9090, "grafana": 3000}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def example() -> set[str]:
    """The variables that a person is asked for."""
    return set(re.findall(r"^(\w+)=", (FOLDER / ".env.example").read_text(), re.MULTILINE))


def interpolated(text: str) -> str:
    return _VARIABLE.sub(lambda match: match[3] if match[2] == "-" else "chosen", text)


COMPOSE: dict[str, Any] = yaml.safe_load(interpolated((FOLDER / "compose.yaml").read_text()))
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in ALL.items() if service.get("command", [""])[0].startswith("services.")}


def kind(service: dict[str, Any]) -> str:
    """The name by which docs/settings.py knows what a service runs."""
    return str(service["command"][0]).rpartition(".")[2]


def addresses(service: dict[str, Any]) -> list[tuple[str, int]]:
    """Host and port of everything that a service's environment names."""
    found = []
    for value in service.get("environment", {}).values():
        if "://" in value and "///" not in value:
            parts = urlsplit(value)
            found.append((str(parts.hostname), parts.port or {"postgresql+psycopg": 5432}[parts.scheme]))
        elif re.fullmatch(r"[a-z-]+:\d+", value):
            host, _, port = value.partition(":")
            found.append((host, int(port)))
    return found


def listens(name: str) -> int:
    return OWN_PORTS.get(name) or int(ALL[name]["environment"]["TUNELOOP_HTTP_PORT"])


def test_all_services_are_there() -> None:
    # vLLM needs a GPU, and the fault proxy is for tests.
    assert {kind(service) for service in OURS.values()} == set(SERVICES) - {"vllm_server", "fault_proxy"}


@pytest.mark.parametrize("name", OURS)
def test_a_service_takes_the_settings_that_it_gets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in OURS[name]["environment"].items():
        assert isinstance(value, str), f"{variable}: compose wants text"
        monkeypatch.setenv(variable, value)
    settings = settings_class(SERVICES[kind(OURS[name])])()
    assert settings.http_host == "0.0.0.0"  # noqa: S104 - inside a container


def test_commands_are_modules_that_exist() -> None:
    for service in ALL.values():
        if service["image"].startswith("tuneloop/"):
            assert importlib.util.find_spec(service["command"][0]) is not None, service["command"]
            assert (FOLDER.parent / service["build"]["dockerfile"]).exists()


def test_addresses_are_those_of_services() -> None:
    for name, service in OURS.items():
        for host, port in addresses(service):
            assert host in ALL, f"{name} names {host}"
            assert port == listens(host), f"{name} looks for {host} at {port}"


def test_databases_are_made() -> None:
    (script,) = [part for part in ALL["postgres"]["volumes"] if part.endswith(".sql:ro")]
    made = re.findall(r"CREATE DATABASE (\w+);", (FOLDER / script.split(":")[0]).read_text())
    used = {
        urlsplit(service["environment"]["TUNELOOP_DATABASE_URL"]).path[1:]
        for service in OURS.values() if "postgres" in service["environment"].get("TUNELOOP_DATABASE_URL", "")
    }
    assert sorted(used) == sorted(made), "PostgreSQL's image gives up at a database that is there already"


def test_volumes_are_declared_and_files_exist() -> None:
    named = set()
    for service in ALL.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), source
            else:
                named.add(source)
    assert named == set(COMPOSE["volumes"])


def test_what_is_waited_for_can_come() -> None:
    checked = (FOLDER / "control-plane.Dockerfile").read_text()
    for name, service in ALL.items():
        wanted = service.get("depends_on", {})
        for other, how in wanted.items() if isinstance(wanted, dict) else ():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in ALL[other], f"{name} waits for the health of {other}"
            else:
                assert ALL[other]["restart"] == "no", f"{name} waits for the end of {other}"
    assert "\nHEALTHCHECK" in checked, "for --wait"


def test_prometheus_scrapes_every_service() -> None:
    jobs = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {kind(service): [f"{name}:{listens(name)}"] for name, service in OURS.items()}


def test_prometheus_has_the_chart_s_rules() -> None:
    mounts = dict(mount.split(":")[:2] for mount in ALL["prometheus"]["volumes"])
    [pattern] = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["rule_files"]
    folder = next(source for source, target in mounts.items() if target == pattern.removesuffix("/*.yaml"))
    assert list((FOLDER / folder).glob("*.yaml"))


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana/datasources.yaml").read_text())["datasources"]
    assert urlsplit(source["url"]).netloc == f"prometheus:{OWN_PORTS['prometheus']}"
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards.yaml").read_text())["providers"]
    assert any(f":{provider['options']['path']}:" in volume for volume in ALL["grafana"]["volumes"])


def test_doors_are_for_this_machine_only_and_differ() -> None:
    published = [port for service in ALL.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)


def test_secrets_are_asked_for_and_never_given() -> None:
    asked = {match[1] for match in _VARIABLE.finditer((FOLDER / "compose.yaml").read_text()) if match[2] == "?"}
    assert asked == {"S3_ACCESS_KEY", "S3_SECRET_KEY", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD"}
    assert asked <= example()
    assert "=\n" in (FOLDER / ".env.example").read_text()
