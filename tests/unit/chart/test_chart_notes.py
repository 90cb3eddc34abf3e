"""What Helm says after an install: the next commands, and what will not work yet."""

import re

import pytest

from tests.support.chart import VARIANTS, notes, rendered, variant

IN_THE_WAY = "networkPolicy.egress."


@pytest.mark.parametrize("name", VARIANTS)
def test_the_chart_s_own_values_open_the_ports_that_they_name(name: str) -> None:
    assert IN_THE_WAY not in notes(name)


def test_addresses_that_the_policies_close_are_named() -> None:
    said = notes(rendered({
        "s3": {"endpoint": "http://seaweedfs-s3.storage:8333"},
        "kafka": {"bootstrapServers": "a:9092,b:9094"},
        "prometheus": {"url": "https://metrics.example.com/prometheus"},
        "tracing": {"otlpEndpoint": "http://collector/"},
        "drift": {"settings": {"embeddingsUrl": "http://tei:8080/v1"}},
    }))
    for line in (
        "s3.endpoint is at port 8333, and networkPolicy.egress.s3.ports lets pods go to 443",
        "kafka.bootstrapServers is at port 9094, and networkPolicy.egress.kafka.ports lets pods go to 9092",
        "prometheus.url is at port 443, and networkPolicy.egress.prometheus.ports lets pods go to 9090",
        "tracing.otlpEndpoint is at port 80, and networkPolicy.egress.tracing.ports lets pods go to 4318",
        "drift.settings.embeddingsUrl is at port 8080, and networkPolicy.egress.embeddings.ports lets pods go to 443",
    ):
        assert line in said
    assert said.count(IN_THE_WAY) == 5, "and those that are open are not"


def test_without_policies_nothing_is_in_the_way_and_without_servers_nothing_waits_for_a_model() -> None:
    assert "wait for base-models/smollm2-135m-instruct/ in the bucket tuneloop until" in notes("defaults")
    said = notes(rendered({
        "networkPolicy": {"enabled": False}, "s3": {"endpoint": "http://minio:9000"}, "serving": {"enabled": False},
    }))
    assert IN_THE_WAY not in said
    assert "base-models" not in said


@pytest.mark.parametrize("name", VARIANTS)
def test_its_commands_name_services_and_ports_that_are_there(name: str) -> None:
    ports = {(item["metadata"]["name"], str(port["port"]))
             for item in variant(name) if item["kind"] == "Service" for port in item["spec"]["ports"]}
    found = re.findall(r"port-forward service/(\S+) \d+:(\d+)", notes(name))
    assert len(found) == 2
    assert set(found) <= ports
