"""A mistake in the values is an error before anything is changed, and the error says where it is."""

from typing import Any

import helm_python
import pytest

from docs.chart import CHART, outputs
from docs.chart_schema import schema
from docs.chart_values import UndescribedError, read_values
from shared.docs.generated import stale
from tests.support.chart import VARIANTS, render, values_of


@pytest.mark.parametrize(("values", "says"), [
    ({"gatway": {"replicas": 2}}, ["additional properties 'gatway' not allowed"]),
    ({"gateway": {"replica": 2}}, ["/gateway", "additional properties 'replica' not allowed"]),
    ({"trainer": {"settings": {"maxConcurrentRun": 2}}},
     ["/trainer/settings", "additional properties 'maxConcurrentRun' not allowed"]),
    ({"trainer": {"settings": {"maxConcurrentRuns": 0}}}, ["/trainer/settings/maxConcurrentRuns", "got 0, want 1"]),
    ({"registry": {"settings": {"maxConcurrentRuns": 2}}}, ["/registry/settings", "'maxConcurrentRuns' not allowed"]),
    ({"trainer": {"settings": {"databaseUrl": "postgresql://u:p@h/d"}}}, ["'databaseUrl' not allowed"]),
    ({"s3": {"secretKey": "x"}}, ["/s3", "additional properties 'secretKey' not allowed"]),
    ({"rollout": {"replicas": "2"}}, ["/rollout/replicas", "got string, want integer"]),
    ({"images": {"vllm": {"digest": "abc"}}}, ["/images/vllm/digest", "does not match pattern"]),
    ({"images": {"pullPolicy": "Sometimes"}}, ["/images/pullPolicy", "must be one of"]),
    ({"serving": {"engine": "tgi"}}, ["/serving/engine", "must be one of", "'small'"]),
    ({"serving": {"cache": {"size": "20 GB"}}}, ["/serving/cache/size", "does not match pattern"]),
    ({"kafka": {"bootstrapServers": "kafka"}}, ["/kafka/bootstrapServers", "does not match pattern"]),
    ({"gateway": {"resources": {"limit": {"memory": "1Gi"}}}}, ["/gateway/resources", "'limit' not allowed"]),
    ({"gateway": {"probes": {"liveness": {"period": 3}}}}, ["/gateway/probes/liveness", "'period' not allowed"]),
    ({"trainer": {"tolerations": [{"key": "gpu", "effect": "NoRun"}]}}, ["/trainer/tolerations/0/effect"]),
    ({"jobs": {"hardware": {"a100": {"nodeSelectors": {}}}}}, ["/jobs/hardware/a100", "'nodeSelectors' not allowed"]),
    ({"monitoring": {"interval": "often"}}, ["/monitoring/interval"]),
])
def test_a_mistake_is_refused_and_named(values: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        render(values)
    for text in says:
        assert text in str(refused.value)


@pytest.mark.parametrize(("values", "says"), [
    ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: name the Gateway"),
    ({"kafka": {"securityProtocol": "SASL_SSL"}}, "SASL_SSL needs username, and existingSecret"),
    ({"kafka": {"tls": {"ca": {"existingSecret": "ca"}}}}, "kafka.tls: securityProtocol PLAINTEXT uses no TLS"),
    ({"serving": {"maxLoras": 9}}, "serving.maxCpuLoras is 8 and serving.maxLoras 9"),
    ({"serving": {"drainSeconds": 100}}, "drainSeconds 100 needs 215"),
    ({"rollout": {"trafficBackend": "inference-model-rewrite"}}, "rollout.inferencePools: name the InferencePool"),
    ({"rollout": {"trafficBackend": "istio"}}, "trafficBackend"),
    ({"gateway": {"settings": {"shutdownSeconds": 60}}}, "need 70"),
    ({"gateway": {"autoscaling": {"minReplicas": 20}}}, "minReplicas is 20, and maxReplicas 10"),
])
def test_values_that_do_not_fit_each_other_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render(values)
    assert says in str(refused.value)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_chart_s_own_values_are_good(name: str) -> None:
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values_of(*VARIANTS[name]))


def test_no_part_of_the_values_is_left_open_by_oversight() -> None:
    """What may hold anything is Kubernetes' own, and listed here."""
    is_open = set()

    def walk(path: str, told: Any) -> None:
        if isinstance(told, dict):
            if told.get("type") == "object" and "additionalProperties" not in told:
                is_open.add(path)
            for key, value in told.items():
                walk(path if key in {"properties", "items"} else f"{path}/{key}".lstrip("/"), value)

    walk("", schema(read_values((CHART / "values.yaml").read_text())))
    assert is_open == {
        "global", "$defs/named", "$defs/spread", "defaults/strategy", "defaults/podSecurityContext",
        "defaults/securityContext", "gateway/autoscaling/behavior",
        *(f"defaults/affinity/{kind}" for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")),
        *(f"networkPolicy/{who}" for who in ("gatewayClients", "modelServerClients", "operators", "monitoring", "dns")),
        *(f"networkPolicy/egress/{to}/to" for to in
          ("kafka", "s3", "database", "prometheus", "kubernetes", "embeddings", "tracing", "trackers", "webhooks")),
    }


def test_readme_and_schema_are_current() -> None:
    assert stale(outputs(CHART).items()) == []


def test_a_value_that_nobody_describes_is_an_error() -> None:
    with pytest.raises(UndescribedError, match=r"gateway\.port has no description"):
        read_values("# -- All of it.\nname: x\ngateway:\n  port: 80\n")


def test_values_are_read_with_what_is_said_of_them() -> None:
    name, gateway = read_values(
        "# About this file.\n\n# @section -- First\n\n# -- A name,\n# on two lines.\n"
        "# @schema {minLength: 1}\nname: x\n"
        "# What follows.\ngateway:\n  # -- Ports.\n  ports:\n    http: 80\n  # -- Kind.\n  kind: {a: 1}\n"
    )
    assert (name.description, name.schema, name.section) == ("A name, on two lines.", {"minLength": 1}, "First")
    assert (gateway.is_group, gateway.description) == (True, "What follows.")
    assert [(value.name, value.default) for value in gateway.values()] == [
        ("gateway.ports", {"http": 80}), ("gateway.kind", {"a": 1}),
    ]
