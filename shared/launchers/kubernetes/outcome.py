"""What a Job and its pods say about how the job stands. Pure: the time is given, the API is asked elsewhere."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.launchers.kubernetes.manifest import FAILED_BECAUSE
from shared.launchers.kubernetes.views import Job, Pod, Terminated
from shared.launchers.model import JobState

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_DISRUPTED = {
    "PreemptionByScheduler": "was preempted for a pod of higher priority",
    "DeletionByTaintManager": "lost its node: the node does not answer, or must not run it any more",
    "EvictionByEvictionAPI": "was evicted from its node, which was drained",
    "DeletionByPodGC": "lost its node, which is gone",
    "TerminationByKubelet": "was ended by its node, which was short of something or shut down",
}
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Limits:
    """How long a pod may wait, in seconds: for a node, and then for its start."""

    unschedulable: float
    start: float


@dataclass(frozen=True)
class Outcome:
    """How a job stands.

    Attributes:
        message: what happened, or what it waits for.
        pod: whose log tells more; empty where no pod ran.
        stuck: it never started and shall not be waited for any longer: its Job must be ended.
    """

    state: JobState
    message: str = ""
    exit_code: int | None = None
    pod: str = ""
    stuck: bool = False


def outcome(job: Job, pods: Sequence[Pod], *, now: datetime, limits: Limits) -> Outcome:
    """How the job stands, from its Job and the pods of this Job."""
    return _ended(job, pods) or _at_work(job, pods, now, limits)


def _ended(job: Job, pods: Sequence[Pod]) -> Outcome | None:
    if job.condition("Complete"):
        return Outcome("succeeded", exit_code=0, pod=_newest(pods))
    if reason := job.metadata.annotations.get(FAILED_BECAUSE):
        return Outcome("failed", reason)
    failed = job.condition("Failed")
    return _failed(job, failed.reason, failed.message, pods) if failed else None


def _at_work(job: Job, pods: Sequence[Pod], now: datetime, limits: Limits) -> Outcome:
    if job.metadata.deletion_timestamp:
        # It may still be storing a checkpoint; absent comes next.
        return Outcome("running", "the job was cancelled and is ending", pod=_newest(pods))
    if job.spec.suspend:
        return Outcome("pending", _queued(job))
    if not pods:
        return _without_pods(job, now, limits)
    waiting = [verdict for pod in pods if (verdict := _waiting(pod, now, limits))]
    if waiting:
        return next((verdict for verdict in waiting if verdict.stuck), waiting[0])
    return Outcome("running", pod=_newest(pods))


def _queued(job: Job) -> str:
    queue = job.metadata.labels.get("kueue.x-k8s.io/queue-name")
    return f"queued: it waits for its turn in Kueue's queue {queue}" if queue else "queued: its Job is suspended"


def _without_pods(job: Job, now: datetime, limits: Limits) -> Outcome:
    since = job.status.start_time or job.metadata.creation_timestamp or now
    what = (
        "no pod was made for it; is a ResourceQuota or an admission rule in the way? `kubectl describe job "
        f"{job.metadata.name}` tells"
    )
    return _unless_late(what, now, since, limits.start)


def _waiting(pod: Pod, now: datetime, limits: Limits) -> Outcome | None:
    """What a pod that has not started waits for; None for one that has."""
    if pod.status.phase != "Pending":
        return None
    created = pod.metadata.creation_timestamp or now
    scheduled = pod.condition("PodScheduled")
    if scheduled is None:
        why = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
        since = (why and why.last_transition_time) or created
        told = f": {why.message}" if why and why.message else ""
        return _unless_late(f"no node can take it yet{told}", now, since, limits.unschedulable)
    since = scheduled.last_transition_time or created
    return _unless_late(_not_started(pod), now, since, limits.start)


def _not_started(pod: Pod) -> str:
    waiting = pod.waiting
    if waiting is None or waiting.reason in {"", "ContainerCreating", "PodInitializing"}:
        return "its pod is starting: fetching the image, or mounting volumes"
    told = f": {waiting.message}" if waiting.message else ""
    if waiting.reason in _IMAGE:
        return f"its image cannot be fetched ({waiting.reason}){told}. TUNELOOP_JOB_IMAGE names it"
    if waiting.reason == "CreateContainerConfigError":
        return f"a Secret that it needs is missing, or a key in it{told}"
    return f"its container cannot be started ({waiting.reason}){told}"


def _unless_late(what: str, now: datetime, since: datetime, limit: float) -> Outcome:
    if (now - since).total_seconds() <= limit:
        return Outcome("pending", what)
    return Outcome("failed", f"it did not start within {limit:g} s: {what}", stuck=True)


def _failed(job: Job, reason: str, message: str, pods: Sequence[Pod]) -> Outcome:
    culprit = _first_to_fail(pods)
    name = culprit.metadata.name if culprit else _newest(pods)
    code = culprit.terminated.exit_code if culprit and culprit.terminated else None
    if reason == "DeadlineExceeded":
        limit = f" of {job.spec.active_deadline_seconds} s" if job.spec.active_deadline_seconds else ""
        return Outcome("failed", f"the job ran longer than its limit{limit} and was ended", code, name)
    if culprit is None:
        return Outcome("failed", f"Kubernetes gave the job up ({reason}): {message}; no pod of it is left", pod=name)
    return Outcome("failed", _explain(culprit), code, name)


def _explain(pod: Pod) -> str:
    """Why a pod failed: what was done to it comes before what became of its process."""
    disrupted = pod.condition("DisruptionTarget")
    if disrupted is not None:
        how = _DISRUPTED.get(disrupted.reason, f"was ended by the cluster ({disrupted.reason})")
        return f"the job {how}" + (f": {disrupted.message}" if disrupted.message else "")
    if pod.status.reason:
        how = "was evicted from its node" if pod.status.reason == "Evicted" else f"was ended ({pod.status.reason})"
        return f"the job {how}" + (f": {pod.status.message}" if pod.status.message else "")
    end = pod.terminated
    return _became(end) if end else "the job's pod failed before its container ran"


def _became(end: Terminated) -> str:
    """What became of a process."""
    if end.reason == "OOMKilled":
        return (
            "the job needed more memory than its limit and was killed (OOMKilled); give it more in the pipeline's "
            "resources.memory, or lower batchSize or maxLength"
        )
    if end.reason in {"StartError", "ContainerCannotRun"}:
        return f"the job's container could not be run: {end.message}"
    if end.exit_code == 128 + signal.SIGKILL:
        return "the job was killed (SIGKILL)"
    if end.exit_code > 128:
        return f"the job was ended by signal {end.exit_code - 128}"
    return f"the job ended with exit code {end.exit_code}"


def _first_to_fail(pods: Sequence[Pod]) -> Pod | None:
    """Of several nodes, the first that failed took the others with it."""
    failed = [pod for pod in pods if pod.status.phase == "Failed"]
    return min(failed, key=lambda pod: _order(pod.terminated.finished_at if pod.terminated else None), default=None)


def _order(instant: datetime | None) -> datetime:
    return instant or _NEVER


def _newest(pods: Sequence[Pod]) -> str:
    newest = max(pods, key=lambda pod: _order(pod.metadata.creation_timestamp), default=None)
    return newest.metadata.name if newest else ""
