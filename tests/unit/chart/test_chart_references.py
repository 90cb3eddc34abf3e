"""Every name, port, variable, key and label that one object uses from another exists there."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chart import NAMESPACE, RELEASE, VARIANTS, PodTemplate, matches, pods, values_of, variant

every_variant = pytest.mark.parametrize("name", VARIANTS)
Objects = tuple[dict[str, Any], ...]


def of_kind(objects: Objects, *kinds: str) -> Iterator[dict[str, Any]]:
    return (item for item in objects if item["kind"] in kinds)


def named(objects: Objects, *kinds: str) -> set[str]:
    return {item["metadata"]["name"] for item in of_kind(objects, *kinds)}


def selected(objects: Objects, selector: dict[str, Any]) -> list[PodTemplate]:
    """Pods of the release's workloads that a selector finds; a StatefulSet's have their name as a label, too."""
    found = []
    for pod in pods(objects):
        kind, owner = pod.owner.split()
        indexes = range(10) if kind == "StatefulSet" else [0]
        labels = [{**pod.labels, **({"statefulset.kubernetes.io/pod-name": f"{owner}-{index}"}
                                    if kind == "StatefulSet" else {})} for index in indexes]
        if any(matches(selector, each) for each in labels):
            found.append(pod)
    return found


@every_variant
def test_a_service_finds_pods_of_one_workload_and_a_port_of_theirs(name: str) -> None:
    objects = variant(name)
    for service in of_kind(objects, "Service"):
        (pod,) = selected(objects, {"matchLabels": service["spec"]["selector"]})
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in pod.ports, service["metadata"]["name"]


@every_variant
def test_each_replica_of_the_model_server_has_the_service_that_it_announces(name: str) -> None:
    objects = variant(name)
    (serving,) = of_kind(objects, "StatefulSet")
    assert serving["spec"]["serviceName"] in named(objects, "Service")
    (agent,) = serving["spec"]["template"]["spec"]["initContainers"]
    variables = {item["name"]: item.get("value") for item in agent["env"]}
    for index in range(serving["spec"]["replicas"]):
        pod = f"{serving['metadata']['name']}-{index}"
        (service,) = [item for item in of_kind(objects, "Service") if item["metadata"]["name"] == pod]
        assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == pod
        endpoint = str(variables["TUNELOOP_ADVERTISED_ENDPOINT"]).replace("$(POD_NAME)", pod)
        assert endpoint == f"http://{pod}.{NAMESPACE}.svc:{service['spec']['ports'][0]['port']}"


@every_variant
def test_workloads_select_their_own_pods_and_no_others(name: str) -> None:
    objects = variant(name)
    for workload in of_kind(objects, "Deployment", "StatefulSet"):
        (pod,) = selected(objects, workload["spec"]["selector"])
        assert pod.owner == f"{workload['kind']} {workload['metadata']['name']}"


@every_variant
def test_probes_and_hooks_ask_ports_that_are_there(name: str) -> None:
    for pod in pods(variant(name)):
        for container in pod.containers:
            own = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in own
            if pod.owner.split()[0] in {"Deployment", "StatefulSet"}:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


@every_variant
def test_the_ports_are_those_that_the_processes_listen_on(name: str) -> None:
    for pod in pods(variant(name)):
        for container in pod.containers:
            told = {item["name"]: item.get("value") for item in container.get("env", [])}
            for port in container.get("ports", []):
                assert told["TUNELOOP_HTTP_PORT"] == str(port["containerPort"])
                assert told["TUNELOOP_HTTP_HOST"] == "0.0.0.0"  # noqa: S104 - in a pod


@every_variant
def test_what_is_mounted_is_a_volume_and_every_volume_is_mounted(name: str) -> None:
    claims = {claim["metadata"]["name"] for item in of_kind(variant(name), "StatefulSet")
              for claim in item["spec"].get("volumeClaimTemplates", [])}
    for pod in pods(variant(name)):
        mounted = {mount["name"] for c in pod.containers for mount in c.get("volumeMounts", [])}
        volumes = [volume["name"] for volume in pod.spec.get("volumes", [])]
        assert len(set(volumes)) == len(volumes)
        kept = claims if pod.owner.startswith("StatefulSet") else set()
        assert mounted == set(volumes) | kept, pod.owner
        for container in pod.containers:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(set(paths)) == len(paths)


@every_variant
def test_no_variable_stands_twice_and_what_it_is_made_of_stands_before_it(name: str) -> None:
    for pod in pods(variant(name)):
        for container in pod.containers:
            seen: list[str] = []
            for variable in container.get("env", []):
                assert variable["name"] not in seen, f"{pod.owner}: {variable['name']}"
                used = {part.partition(")")[0] for part in str(variable.get("value", "")).split("$(")[1:]}
                assert used <= set(seen), f"{pod.owner}: {variable['name']}"
                seen.append(variable["name"])


@every_variant
def test_service_accounts_exist_or_were_said_to(name: str) -> None:
    objects = variant(name)
    known = named(objects, "ServiceAccount") | {"default"} | ({"existing"} if name == "everything" else set())
    for pod in pods(objects):
        assert pod.spec["serviceAccountName"] in known
        for container in pod.containers:
            told = {item["name"]: item.get("value") for item in container.get("env", [])}
            assert told.get("TUNELOOP_JOB_SERVICE_ACCOUNT", "default") in known


@every_variant
def test_a_hook_before_the_install_uses_nothing_that_the_chart_makes(name: str) -> None:
    for job in of_kind(variant(name), "Job"):
        spec = job["spec"]["template"]["spec"]
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert spec["serviceAccountName"] == "default"
        own = [volume for volume in spec["volumes"] if "emptyDir" not in volume]
        assert own == values_of(*VARIANTS[name]).get("defaults", {}).get("extraVolumes", [])


@every_variant
def test_roles_are_bound_to_those_who_ask_kubernetes(name: str) -> None:
    objects = variant(name)
    accounts = {pod.labels["app.kubernetes.io/component"]: pod.spec["serviceAccountName"] for pod in pods(objects)}
    bindings = {item["metadata"]["name"]: item for item in of_kind(objects, "RoleBinding")}
    assert {binding["roleRef"]["name"] for binding in bindings.values()} == named(objects, "Role")
    subjects = [subject for binding in bindings.values() for subject in binding["subjects"]]
    assert sorted(subject["name"] for subject in subjects) == sorted(
        accounts[service] for service in ("trainer", "evaluator", *(["rollout"] if name == "everything" else []))
    )
    assert {subject["namespace"] for subject in subjects} == {NAMESPACE}


@every_variant
def test_budgets_and_monitors_find_their_pods(name: str) -> None:
    objects = variant(name)
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert len(selected(objects, budget["spec"]["selector"])) == 1
    for monitor in of_kind(objects, "PodMonitor"):
        (pod,) = selected(objects, monitor["spec"]["selector"])
        assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} == set(pod.ports)
    for monitor in of_kind(objects, "ServiceMonitor"):
        (service,) = [item for item in of_kind(objects, "Service")
                      if matches(monitor["spec"]["selector"], item["metadata"]["labels"])]
        assert {e["port"] for e in monitor["spec"]["endpoints"]} <= {p["name"] for p in service["spec"]["ports"]}


def test_prometheus_scrapes_every_process_once_and_calls_it_as_on_one_machine() -> None:
    from services.cli.local.plan import SERVICES

    jobs = [relabeling["replacement"]
            for item in of_kind(variant("production"), "ServiceMonitor", "PodMonitor")
            for endpoint in item["spec"].get("endpoints", item["spec"].get("podMetricsEndpoints"))
            for relabeling in endpoint["relabelings"] if relabeling["targetLabel"] == "job"]
    assert sorted(jobs) == sorted(SERVICES)


@every_variant
def test_whoever_scales_has_a_target_that_does_not_say_how_many_itself(name: str) -> None:
    objects = variant(name)
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in of_kind(
        objects, "HorizontalPodAutoscaler", "ScaledObject")}
    deployments = {item["metadata"]["name"]: item for item in of_kind(objects, "Deployment")}
    assert scaled <= deployments.keys()
    for deployment, item in deployments.items():
        assert ("replicas" in item["spec"]) is (deployment not in scaled)


@every_variant
def test_ways_to_the_gateway_lead_to_its_service_and_only_to_v1(name: str) -> None:
    objects = variant(name)
    services = {item["metadata"]["name"]: {port["name"]: port["port"] for port in item["spec"]["ports"]}
                for item in of_kind(objects, "Service")}
    for ingress in of_kind(objects, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            (path,) = rule["http"]["paths"]
            assert path["path"] == "/v1"
            backend = path["backend"]["service"]
            assert backend["port"]["name"] in services[backend["name"]]
            assert backend["name"].endswith("-gateway")
    for route in of_kind(objects, "HTTPRoute"):
        (rule,) = route["spec"]["rules"]
        assert [match["path"]["value"] for match in rule["matches"]] == ["/v1"]
        (backend,) = rule["backendRefs"]
        assert backend["port"] in services[backend["name"]].values()


@every_variant
def test_network_policies_name_pods_and_ports_that_are_there(name: str) -> None:
    objects = variant(name)
    ports_of_jobs: dict[str, int] = {}
    for policy in of_kind(objects, "NetworkPolicy"):
        spec = policy["spec"]
        targets = selected(objects, spec["podSelector"])
        is_of_jobs = spec["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "tuneloop-job"
        assert len(targets) == (0 if is_of_jobs else 1), policy["metadata"]["name"]
        for rule in spec.get("ingress", []):
            for port in rule.get("ports", []):
                assert port["port"] in (targets[0].ports if targets else ports_of_jobs)
        for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
            for peer in rule.get("from", rule.get("to", [])):
                if "namespaceSelector" not in peer and "podSelector" in peer and not is_of_jobs:
                    assert selected(objects, peer["podSelector"]), peer


@every_variant
def test_the_policy_of_jobs_finds_the_pods_that_the_launcher_makes(name: str) -> None:
    from shared.launchers.kubernetes.manifest import labels_of
    from shared.launchers.kubernetes.settings import KubernetesSettings
    from shared.launchers.model import JobSpec

    objects = variant(name)
    owner = next(item["value"] for pod in pods(objects) for container in pod.containers
                 for item in container.get("env", []) if item["name"] == "TUNELOOP_JOB_OWNER")
    labels = labels_of(JobSpec(name="train-1", module="services.trainer.job"), KubernetesSettings(job_owner=owner))
    found = [item["metadata"]["name"] for item in of_kind(objects, "NetworkPolicy")
             if matches(item["spec"]["podSelector"], labels)]
    assert len(found) == 1
    assert found[0].endswith("-job")


@every_variant
def test_helm_test_asks_every_service_once(name: str) -> None:
    objects = variant(name)
    (pod,) = of_kind(objects, "Pod")
    urls = pod["spec"]["containers"][0]["args"][1:]
    ports = {item["metadata"]["name"]: {port["port"] for port in item["spec"]["ports"]}
             for item in of_kind(objects, "Service")}
    asked = [url.removeprefix("http://").partition("/")[0].partition(":") for url in urls]
    for service, _, port in asked:
        assert int(port) in ports[service]
    headless = {item["metadata"]["name"] for item in of_kind(objects, "Service") if item["spec"].get("clusterIP")}
    assert sorted(service for service, _, _ in asked) == sorted(ports.keys() - headless)


@every_variant
def test_there_is_time_for_what_happens_before_an_end(name: str) -> None:
    for pod in pods(variant(name)):
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        for container in pod.containers:
            hook = container.get("lifecycle", {}).get("preStop", {})
            told = {item["name"]: item.get("value") for item in container.get("env", [])}
            if "sleep" in hook:
                shutdown = int(told.get("TUNELOOP_SHUTDOWN_SECONDS") or 20)
                assert grace >= hook["sleep"]["seconds"] + shutdown + 5
            if "exec" in hook:
                command = hook["exec"]["command"]
                assert grace >= 2 * int(command[command.index("--seconds") + 1]) + 15


def test_samples_are_not_stale_before_the_next_scrape() -> None:
    from services.rollout.settings import RolloutSettings

    stale = RolloutSettings().prometheus_stale_seconds
    for item in of_kind(variant("production"), "ServiceMonitor"):
        assert 3 * int(item["spec"]["endpoints"][0]["interval"].removesuffix("s")) <= stale


def test_secrets_and_their_keys_are_those_that_the_documents_name() -> None:
    used = set()
    for pod in pods(variant("production")):
        for container in pod.containers:
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    used.add((reference["name"], reference["key"]))
        used |= {(volume["secret"]["secretName"], volume["name"])
                 for volume in pod.spec.get("volumes", []) if "secret" in volume}
    assert used == {
        ("tuneloop-s3", "access-key"), ("tuneloop-s3", "secret-key"), ("tuneloop-api-keys", "api-keys"),
        ("tuneloop-webhooks", "webhook-secrets"),
        *(("tuneloop-database", key)
          for key in ("data-ingest", "trainer", "evaluator", "registry", "rollout", "drift")),
    }


def test_the_release_s_name_is_in_every_name() -> None:
    for item in variant("production"):
        assert item["metadata"]["name"].startswith(RELEASE)
