"""The chart's objects, its Roles, and what services ask of Kubernetes, on a real cluster: ``-m kubernetes``.

With TUNELOOP_TEST_KUBECONFIG, a kubeconfig of an administrator of a cluster for tests. No pod needs to run, so an API
server and a controller manager are enough. All that is made is in a namespace that is deleted at the end. Services are
impersonated, so that RBAC has its say about each of their requests.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, AppsV1Api, AuthorizationV1Api, BatchV1Api, Configuration, CoreV1Api

from services.rollout.rewrites.api import RewriteApi
from services.rollout.rewrites.manifest import Apply, Create, Pool, manifest, name_of, plan
from shared.clock import SystemClock
from shared.errors import ConflictError, TemporaryError
from shared.events import RouteTarget
from shared.launchers import JobSpec, LauncherSettings
from shared.launchers.kubernetes.api import KubernetesApi
from shared.launchers.kubernetes.launcher import KubernetesLauncher
from tests.support.chart import EVERYTHING, VARIANTS, Right, render, role, values_of
from tests.support.wait import eventually

pytestmark = pytest.mark.kubernetes
KUBECTL = str(Path(sys.executable).with_name("kubectl"))
SERVICES = ("data-ingest", "trainer", "evaluator", "registry", "rollout", "drift", "gateway", "serving")
# What no service needs, whatever its Role says.
NEVER: list[Right] = [
    ("", "secrets", "get"), ("", "secrets", "list"), ("", "configmaps", "get"), ("", "pods", "create"),
    ("", "pods/exec", "create"), ("apps", "deployments", "patch"), ("batch", "jobs", "list"),
    ("rbac.authorization.k8s.io", "roles", "create"), ("", "serviceaccounts/token", "create"),
]


@pytest.fixture(scope="module")
def kubeconfig() -> str:
    path = os.environ.get("TUNELOOP_TEST_KUBECONFIG", "")
    if not path:
        pytest.skip("set TUNELOOP_TEST_KUBECONFIG to run this against a cluster")
    return path


def client(kubeconfig: str, account: str = "") -> ApiClient:
    """The administrator, or a service account of the form namespace:name in his place."""
    configuration = Configuration()
    config.load_kube_config(kubeconfig, client_configuration=configuration)
    configuration.retries = False
    made = ApiClient(configuration)
    if account:
        made.set_default_header("Impersonate-User", f"system:serviceaccount:{account}")
    return made


@pytest.fixture(scope="module")
def namespace(kubeconfig: str) -> Iterator[str]:
    """An empty namespace whose pods must keep the rules of `restricted`."""
    core, name = CoreV1Api(client(kubeconfig)), f"tuneloop-test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    yield name
    core.delete_namespace(name)


def apply(kubeconfig: str, namespace: str, objects: list[dict[str, Any]], *options: str) -> str:
    """What `kubectl apply` says; unknown fields are errors."""
    done = subprocess.run(
        [KUBECTL, "--kubeconfig", kubeconfig, "--namespace", namespace, "apply", "--server-side", "--validate=strict",
         *options, "--filename=-"],
        input=yaml.safe_dump_all(objects), capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def known(kubeconfig: str) -> set[str]:
    """API groups and versions that the cluster has: not every one has KEDA."""
    command = [KUBECTL, "--kubeconfig", kubeconfig, "api-versions"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def accounts(kubeconfig: str, namespace: str) -> str:
    """Accounts and Roles of two releases in the namespace: one as it comes, and one whose traffic llm-d splits."""
    for release, values in (("demo", {}), ("llmd", {"rollout": EVERYTHING["rollout"]})):
        objects = render(values, release=release, namespace=namespace)
        apply(kubeconfig, namespace, [
            item for item in objects if item["kind"] in {"ServiceAccount", "Role", "RoleBinding"}
        ])
    return namespace


def launcher(kubeconfig: str, namespace: str, service: str = "trainer", **settings: Any) -> KubernetesLauncher:
    """What a service launches its jobs with, with nothing but its own rights."""
    api = KubernetesApi(client(kubeconfig, f"{namespace}:demo-tuneloop-{service}"), namespace)
    chosen = LauncherSettings(launcher="kubernetes", job_image="tuneloop/trainer:1", **settings)
    return KubernetesLauncher(chosen, api, SystemClock(), {})


def names(objects: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(item["kind"], item["metadata"]["name"]) for item in objects}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_cluster_takes_every_object_of_the_chart(
    kubeconfig: str, namespace: str, known: set[str], name: str
) -> None:
    objects = render(values_of(*VARIANTS[name]), namespace=namespace)
    wanted = [item for item in objects if item["apiVersion"] in known]
    said = apply(kubeconfig, namespace, wanted, "--dry-run=server")
    assert "Warning" not in said, said
    assert said.count("serverside-applied") == len(wanted)


def test_two_releases_share_a_namespace(kubeconfig: str, namespace: str, known: set[str]) -> None:
    more = {"defaults": {"enabled": False}, "serving": {"enabled": True}}
    first, second = (render(values_of("small", values), release=release, namespace=namespace)
                     for release, values in (("demo", {}), ("more", more)))
    assert not names(first) & names(second)
    for release in (first, second):
        apply(kubeconfig, namespace, [item for item in release if item["apiVersion"] in known])
    apps = AppsV1Api(client(kubeconfig))
    eventually(lambda: apps.read_namespaced_stateful_set("more-tuneloop-serving", namespace).status.current_replicas,
               what="the pod of the second release's model server, which `restricted` lets in")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_do_what_its_role_says_and_nothing_else(kubeconfig: str, accounts: str, service: str) -> None:
    api = AuthorizationV1Api(client(kubeconfig, f"{accounts}:demo-tuneloop-{service}"))

    def allowed(right: Right, where: str) -> bool:
        (resource, _, part), group, verb = right[1].partition("/"), right[0], right[2]
        asked = {"namespace": where, "group": group, "resource": resource, "subresource": part, "verb": verb}
        answer = api.create_self_subject_access_review({"spec": {"resourceAttributes": asked}})
        return bool(answer.status.allowed)

    rights = role(render({}, namespace=accounts), service)
    assert {right for right in rights if not allowed(right, accounts)} == set()
    assert {right for right in NEVER if allowed(right, accounts)} == set()
    assert {right for right in rights if allowed(right, "default")} == set()


def test_a_job_is_launched_adopted_and_cancelled(kubeconfig: str, accounts: str) -> None:
    spec = JobSpec(name="train-intents-1", module="services.trainer.job", nodes=2, labels={"run": "intents-v1"})
    batch, core = BatchV1Api(client(kubeconfig)), CoreV1Api(client(kubeconfig))
    launcher(kubeconfig, accounts).launch(spec)
    launcher(kubeconfig, accounts).launch(spec)
    after_restart = launcher(kubeconfig, accounts)
    eventually(lambda: "no node can take it yet" in after_restart.observe(spec.name).message,
               what="the job's pods, which `restricted` lets in")
    assert len(core.list_namespaced_pod(accounts, label_selector=f"job-name={spec.name}").items) == spec.nodes
    assert after_restart.logs(spec.name) == ""
    after_restart.cancel(spec.name)
    eventually(lambda: after_restart.observe(spec.name).state == "absent", what="the end of the job")
    eventually(lambda: spec.name not in {item.metadata.name for item in core.list_namespaced_service(accounts).items},
               what="the end of its Service, which the Job owns")
    assert spec.name not in {item.metadata.name for item in batch.list_namespaced_job(accounts).items}


def test_a_job_that_never_starts_is_ended_and_says_why(kubeconfig: str, accounts: str) -> None:
    batch = BatchV1Api(client(kubeconfig))
    impatient = launcher(kubeconfig, accounts, "evaluator", job_unschedulable_seconds=0.1)
    impatient.launch(JobSpec(name="evaluate-1", module="services.evaluator.job"))
    eventually(lambda: impatient.observe("evaluate-1").state == "failed", what="the end of patience")
    found = eventually(lambda: batch.read_namespaced_job("evaluate-1", accounts).status.conditions,
                       what="the controller's word")
    assert {condition.reason for condition in found} == {"DeadlineExceeded"}
    assert "did not start within" in impatient.observe("evaluate-1").message


def test_a_job_of_another_installation_is_left_alone(kubeconfig: str, accounts: str) -> None:
    spec = JobSpec(name="train-other-1", module="services.trainer.job")
    launcher(kubeconfig, accounts, job_owner="theirs").launch(spec)
    ours = launcher(kubeconfig, accounts, job_owner="ours")
    with pytest.raises(ConflictError, match="belongs to the installation 'theirs'"):
        ours.launch(spec)
    ours.cancel(spec.name)
    assert launcher(kubeconfig, accounts, job_owner="theirs").observe(spec.name).state == "pending"


def test_kueue_s_jobs_wait_suspended(kubeconfig: str, accounts: str) -> None:
    queued = launcher(kubeconfig, accounts, job_queue="training")
    queued.launch(JobSpec(name="train-queued-1", module="services.trainer.job"))
    assert "Kueue's queue training" in queued.observe("train-queued-1").message


def test_who_has_no_right_is_told_which_role_it_lacks(kubeconfig: str, accounts: str) -> None:
    with pytest.raises(TemporaryError, match=r"refused it \(403\).*cannot create resource.*docs/jobs\.md"):
        launcher(kubeconfig, accounts, "gateway").launch(JobSpec(name="train-x", module="services.trainer.job"))


def test_a_route_s_rewrite_is_made_applied_and_fenced(kubeconfig: str, accounts: str, known: set[str]) -> None:
    if "llm-d.ai/v1alpha2" not in known:
        pytest.skip("the cluster has no llm-d: apply its InferenceModelRewrite definition")
    api = RewriteApi(client(kubeconfig, f"{accounts}:llmd-tuneloop-rollout"), accounts)
    pool = Pool("vllm-tiny", "inference.networking.k8s.io")

    def wanted(revision: int, *weights: tuple[str, int]) -> dict[str, Any]:
        targets = [RouteTarget(model_version=version, adapter=None, role="stable", weight=weight)
                   for version, weight in weights]
        return manifest("intents", revision, "tiny", targets, pool)

    first, second = wanted(1, ("intents@1", 10_000)), wanted(2, ("intents@1", 9_000), ("intents@2", 1_000))
    assert isinstance(plan(api.get(name_of("intents")), first), Create)
    api.create(first)
    with pytest.raises(TemporaryError, match="somebody else has just made it"):
        api.create(first)
    found = api.get(name_of("intents"))
    assert plan(found, first) is None, "the cluster gives back what it was told, with no default added"
    step = plan(found, second)
    assert isinstance(step, Apply)
    api.apply(second, step.resource_version)
    assert plan(api.get(name_of("intents")), second) is None
    with pytest.raises(TemporaryError, match="changed or deleted since it was read"):
        api.apply(wanted(3, ("intents@2", 10_000)), step.resource_version)
