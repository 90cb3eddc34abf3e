"""The launcher with the real client against an API server: what it asks for, and what it makes of the answers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.client import Configuration

from shared.clock import VirtualClock
from shared.errors import ConflictError, InvalidInputError, TemporaryError
from shared.launchers import JobSpec, JobStatus, LauncherSettings, launcher_from
from shared.launchers.kubernetes.api import KubernetesApi
from shared.launchers.kubernetes.launcher import KubernetesLauncher
from tests.support.kubernetes_cluster import Cluster, start_cluster

pytestmark = pytest.mark.integration
START = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "train-intents-1"
RUNNING = {"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}]}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with start_cluster() as cluster:
        yield cluster


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture
def launcher(cluster: Cluster, clock: VirtualClock) -> KubernetesLauncher:
    return make(cluster, clock)


def make(
    cluster: Cluster, clock: VirtualClock, api: KubernetesApi | None = None, **settings: Any
) -> KubernetesLauncher:
    chosen = LauncherSettings(launcher="kubernetes", job_image="tuneloop/trainer:1", **settings)
    environ = {"TUNELOOP_S3_BUCKET": "artifacts", "TUNELOOP_S3_SECRET_KEY": "hush"}
    return KubernetesLauncher(chosen, api or cluster.api(), clock, environ)


def spec(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({
        "name": NAME, "module": "services.trainer.job", "args": ["s3://artifacts/runs/intents/1/job.json"], **changes,
    })


def ended_pod(exit_code: int, reason: str = "Error", **report: Any) -> dict[str, Any]:
    state = {"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": "2026-01-01T01:00:00Z"}}
    return {"phase": "Failed", "containerStatuses": [{"state": state}], **report}


def disrupted_pod(reason: str) -> dict[str, Any]:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "see the node"}
    return ended_pod(143, conditions=[condition])


def test_a_job_from_its_launch_to_its_end(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    assert launcher.observe(NAME) == JobStatus(state="absent")
    launcher.launch(spec())
    assert launcher.observe(NAME).state == "pending"
    pod = cluster.add_pod(NAME, RUNNING, log="step 1\nstep 2\n")
    assert launcher.observe(NAME) == JobStatus(state="running", logs=f"kubectl --namespace jobs logs pod/{pod}")
    assert launcher.logs(NAME) == "step 1\nstep 2\n"
    cluster.end(NAME, "Complete")
    assert launcher.observe(NAME).state == "succeeded"


def test_a_launcher_that_starts_anew_adopts_what_is_there(cluster: Cluster, clock: VirtualClock) -> None:
    make(cluster, clock).launch(spec())
    cluster.add_pod(NAME, RUNNING)
    after_restart = make(cluster, clock)
    after_restart.launch(spec())
    assert after_restart.observe(NAME).state == "running"
    assert len(cluster.requests("POST")) == 2
    assert cluster.job(NAME)["metadata"]["uid"] == "uid-1", "the second launch left the first Job as it was"


@pytest.mark.parametrize(("labels", "whose"), [
    ({}, "was not made by tuneloop"), ({"tuneloop.dev/owner": "staging"}, "belongs to the installation 'staging'"),
])
def test_a_name_that_is_somebody_elses_is_left_alone(
    cluster: Cluster, launcher: KubernetesLauncher, labels: dict[str, str], whose: str
) -> None:
    cluster.put_job(NAME, {"metadata": {"name": NAME, "uid": "other", "labels": labels}, "spec": {}})
    with pytest.raises(ConflictError, match=whose):
        launcher.launch(spec())
    assert launcher.observe(NAME).state == "absent"
    launcher.cancel(NAME)
    assert cluster.exists(NAME)
    assert launcher.logs(NAME) == ""


def test_cancelling_lets_the_job_store_a_checkpoint_first(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    launcher.launch(spec())
    cluster.add_pod(NAME, RUNNING)
    launcher.cancel(NAME)
    launcher.cancel(NAME)
    (request,) = cluster.requests("DELETE")
    assert request.data == {"propagationPolicy": "Foreground", "preconditions": {"uid": "uid-1"}}
    status = launcher.observe(NAME)
    assert (status.state, status.message) == ("running", "the job was cancelled and is ending")
    with pytest.raises(TemporaryError, match="is being deleted just now"):
        launcher.launch(spec())
    cluster.finish_deletion(NAME)
    assert launcher.observe(NAME).state == "absent"
    launcher.cancel(NAME)


def test_cancelling_a_job_that_has_ended_changes_nothing(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    launcher.launch(spec())
    cluster.end(NAME, "Complete")
    launcher.cancel(NAME)
    assert not cluster.requests("DELETE")
    assert launcher.observe(NAME).state == "succeeded"


def test_an_ended_job_that_kubernetes_removed_is_absent(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    launcher.launch(spec())
    assert cluster.job(NAME)["spec"]["ttlSecondsAfterFinished"] == 86_400
    cluster.end(NAME, "Complete")
    cluster.finish_deletion(NAME)
    assert launcher.observe(NAME).state == "absent"


def test_a_job_made_anew_under_the_name_is_not_deleted_for_the_old_one(
    cluster: Cluster, launcher: KubernetesLauncher
) -> None:
    launcher.launch(spec())
    old = cluster.api().job(NAME)
    assert old is not None
    cluster.set_job(NAME, metadata={"uid": "new"})
    cluster.api().delete_job(old)
    assert cluster.exists(NAME)


@pytest.mark.parametrize(("report", "exit_code", "words"), [
    (ended_pod(1), 1,
     "the job ended with exit code 1. The end of its log (pod train-intents-1-0-abcde):\nreading rows\nno"),
    (ended_pod(137, "OOMKilled"), 137, "more memory than its limit and was killed (OOMKilled); give it more"),
    (ended_pod(137), 137, "the job was killed (SIGKILL)"),
    (ended_pod(139), 139, "the job was ended by signal 11"),
    (ended_pod(128, "StartError"), 128, "container could not be run"),
    ({"phase": "Failed", "reason": "Evicted", "message": "low on ephemeral-storage"}, None,
     "was evicted from its node: low on ephemeral-storage"),
    (disrupted_pod("PreemptionByScheduler"), 143, "was preempted for a pod of higher priority: see the node"),
    (disrupted_pod("EvictionByEvictionAPI"), 143, "was evicted from its node, which was drained: see the node"),
    (disrupted_pod("SomethingNew"), 143, "was ended by the cluster (SomethingNew): see the node"),
])
def test_why_a_job_failed(
    cluster: Cluster, launcher: KubernetesLauncher, report: dict[str, Any], exit_code: int | None, words: str
) -> None:
    launcher.launch(spec())
    cluster.add_pod(NAME, report, log="reading rows\nno such column\n")
    cluster.end(NAME, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    status = launcher.observe(NAME)
    assert (status.state, status.exit_code) == ("failed", exit_code)
    assert words in status.message
    assert status.message.endswith("no such column")


def test_a_job_that_took_too_long(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    launcher.launch(spec(timeout_seconds=90))
    cluster.end(NAME, "Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    status = launcher.observe(NAME)
    assert (status.state, status.message) == ("failed", "the job ran longer than its limit of 90 s and was ended")


def test_a_failed_job_whose_pod_is_gone(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    launcher.launch(spec())
    cluster.end(NAME, "Failed", "BackoffLimitExceeded", "it has reached the limit")
    assert launcher.observe(NAME).message == (
        "Kubernetes gave the job up (BackoffLimitExceeded): it has reached the limit; no pod of it is left"
    )


def test_a_log_that_may_not_be_read_is_said_to_be_so(cluster: Cluster, clock: VirtualClock) -> None:
    launcher = make(cluster, clock)
    launcher.launch(spec())
    cluster.add_pod(NAME, ended_pod(1), log="secret")
    cluster.end(NAME, "Failed", "BackoffLimitExceeded")
    cluster.fail_next(None, None, (403, "pods/log is forbidden"))
    status = launcher.observe(NAME)
    assert status.state == "failed"
    assert "exit code 1. Its log could not be read" in status.message
    assert "pods/log is forbidden. Does the service account have the Role" in status.message
    assert status.logs == f"kubectl --namespace jobs logs pod/{NAME}-0-abcde"


def unschedulable() -> dict[str, Any]:
    why = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes: no nvidia.com/gpu", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"phase": "Pending", "conditions": [why]}


def unpullable() -> dict[str, Any]:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    return {"phase": "Pending", "conditions": [scheduled], "containerStatuses": [{"state": {"waiting": waiting}}]}


@pytest.mark.parametrize(("report", "limit", "words"), [
    (unschedulable(), 3600, "no node can take it yet: 0/3 nodes: no nvidia.com/gpu"),
    (unpullable(), 900, "its image cannot be fetched (ImagePullBackOff): not found. TUNELOOP_JOB_IMAGE names it"),
    (None, 900, "no pod was made for it; is a ResourceQuota or an admission rule in the way?"),
])
def test_a_job_that_never_starts_is_waited_for_and_then_ended(
    cluster: Cluster, clock: VirtualClock, report: dict[str, Any] | None, limit: int, words: str
) -> None:
    launcher = make(cluster, clock)
    launcher.launch(spec())
    if report is not None:
        cluster.add_pod(NAME, report)
    clock.advance(limit - 1)
    status = launcher.observe(NAME)
    assert status.state == "pending"
    assert words in status.message
    clock.advance(2)
    first = launcher.observe(NAME)
    assert first.state == "failed"
    assert f"it did not start within {limit} s: {words}" in first.message
    assert cluster.job(NAME)["spec"]["activeDeadlineSeconds"] == 1, "Kubernetes ends it"
    cluster.end(NAME, "Failed", "DeadlineExceeded")
    assert make(cluster, clock).observe(NAME).message == first.message, "a restarted launcher knows the reason"


def test_a_job_in_kueues_queue_is_queued_however_long(cluster: Cluster, clock: VirtualClock) -> None:
    launcher = make(cluster, clock, job_queue="gpus")
    launcher.launch(spec())
    assert cluster.job(NAME)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    clock.advance(timedelta(days=2).total_seconds())
    status = launcher.observe(NAME)
    assert (status.state, status.message) == ("pending", "queued: it waits for its turn in Kueue's queue gpus")
    cluster.set_job(NAME, spec={"suspend": False}, status={"startTime": "2026-01-03T00:00:00Z"})
    assert launcher.observe(NAME).state == "pending", "and then it has its time to start"


def test_nodes_that_work_together_find_each_other(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    launcher.launch(spec(nodes=2, gpu=8))
    launcher.launch(spec(nodes=2, gpu=8))
    service = cluster.service(NAME)
    assert service["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert service["spec"]["clusterIP"] == "None"
    assert cluster.job(NAME)["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]


def test_of_two_nodes_the_one_that_failed_first_is_told(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    launcher.launch(spec(nodes=2, gpu=8))
    later = ended_pod(143)
    later["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = "2026-01-01T01:00:09Z"
    cluster.add_pod(NAME, later, index=0, log="ended by the other")
    cluster.add_pod(NAME, ended_pod(1), index=1, log="out of rows")
    cluster.end(NAME, "Failed", "BackoffLimitExceeded")
    status = launcher.observe(NAME)
    assert status.exit_code == 1
    assert status.message.endswith("(pod train-intents-1-1-abcde):\nout of rows")


def test_pods_of_an_earlier_job_of_that_name_do_not_count(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    launcher.launch(spec())
    cluster.add_pod(NAME, ended_pod(1))
    cluster.set_job(NAME, metadata={"uid": "made-anew"})
    assert launcher.observe(NAME).state == "pending"


@pytest.mark.parametrize(("fault", "words"), [
    ((503, "etcd is away"), "answered 503: etcd is away"),
    ((500, "internal"), "answered 500"),
    ((429, "too many requests"), "answered 429"),
    ((410, "gone"), "answered 410"),
    ((403, "jobs is forbidden: exceeded quota"), r"refused it \(403\): jobs is forbidden: exceeded quota"),
    ((401, "Unauthorized"), r"refused it \(401\)"),
])
def test_what_an_operator_or_time_mends_is_tried_again(
    cluster: Cluster, launcher: KubernetesLauncher, fault: tuple[int, str], words: str
) -> None:
    for call in (lambda: launcher.launch(spec()), lambda: launcher.observe(NAME), lambda: launcher.cancel(NAME)):
        cluster.fail_next(fault)
        with pytest.raises(TemporaryError, match=words):
            call()
    launcher.launch(spec())
    assert launcher.observe(NAME).state == "pending"


def test_an_api_server_that_does_not_answer(cluster: Cluster, clock: VirtualClock) -> None:
    launcher = make(cluster, clock, cluster.api(timeout=(0.5, 0.2)))
    cluster.fail_next("silence")
    with pytest.raises(TemporaryError, match="did not answer"):
        launcher.observe(NAME)


def test_an_api_server_that_is_away(clock: VirtualClock) -> None:
    with start_cluster() as cluster:
        launcher = make(cluster, clock)
    with pytest.raises(TemporaryError, match="did not answer"):
        launcher.launch(spec())


def test_what_kubernetes_does_not_accept_is_not_tried_again(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    cluster.fail_next((422, 'Job.batch is invalid: spec.template.spec.nodeSelector: Invalid value: "a b"'))
    with pytest.raises(InvalidInputError, match=r"does not accept it: Job\.batch is invalid"):
        launcher.launch(spec())


def test_a_namespace_that_is_not_there(cluster: Cluster, launcher: KubernetesLauncher) -> None:
    cluster.fail_next((404, 'namespaces "jobs" not found'))
    with pytest.raises(TemporaryError, match="Is there a namespace jobs"):
        launcher.launch(spec())


def test_settings_choose_the_launcher_and_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, cluster: Cluster
) -> None:
    monkeypatch.setenv("TUNELOOP_LAUNCHER", "kubernetes")
    monkeypatch.setenv("TUNELOOP_JOB_IMAGE", "tuneloop/trainer:1")
    with pytest.raises(InvalidInputError, match=r"no cluster is known.*set TUNELOOP_KUBECONFIG"):
        launcher_from(LauncherSettings())
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{cluster.url}'}}}}]\n"
        "users: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    monkeypatch.setenv("TUNELOOP_KUBECONFIG", str(kubeconfig))
    with pytest.raises(InvalidInputError, match="set TUNELOOP_JOB_NAMESPACE"):
        launcher_from(LauncherSettings())
    monkeypatch.setenv("TUNELOOP_JOB_NAMESPACE", "jobs")
    launcher_from(LauncherSettings()).launch(spec())
    assert cluster.exists(NAME)
    assert cluster.requests("POST")[-1].headers["Authorization"] == "Bearer t"
    assert Configuration().host != cluster.url, "nothing global was changed"
