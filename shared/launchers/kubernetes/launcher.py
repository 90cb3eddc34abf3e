"""Jobs on Kubernetes. It remembers nothing: any replica, also after a restart, finds what is there by name and label.

Cancelling deletes the Job in the foreground: its pods get SIGTERM and `job_grace_seconds` to store a checkpoint.
"""

from collections.abc import Mapping

from shared.clock import Clock
from shared.errors import ConflictError, NotFoundError, TemporaryError
from shared.launchers.kubernetes.api import KubernetesApi
from shared.launchers.kubernetes.manifest import FAILED_BECAUSE, OWNER, job_manifest, service_manifest
from shared.launchers.kubernetes.outcome import Limits, Outcome, outcome
from shared.launchers.kubernetes.settings import KubernetesSettings
from shared.launchers.kubernetes.views import Job
from shared.launchers.model import JobSpec, JobStatus

_LOG_LINES, _LOG_BYTES = 1000, 64_000
_MESSAGE_LINES, _MESSAGE_BYTES = 40, 2_000


class KubernetesLauncher:
    """Runs each job as a Kubernetes Job; see `Launcher`.

    Args:
        environ: the service's own environment, of which jobs get what they need.
    """

    def __init__(
        self, settings: KubernetesSettings, api: KubernetesApi, clock: Clock, environ: Mapping[str, str]
    ) -> None:
        self._settings, self._api, self._clock, self._environ = settings, api, clock, environ
        self._limits = Limits(unschedulable=settings.job_unschedulable_seconds, start=settings.job_start_seconds)

    def launch(self, spec: JobSpec) -> None:
        """Make the Job; see `Launcher.launch`. That it is there already is success, where it is ours.

        Raises:
            ConflictError: the name is taken by a Job of somebody else.
        """
        manifest = job_manifest(spec, self._settings, self._environ)
        try:
            job = self._api.create_job(manifest)
        except ConflictError:
            job = self._adopted(spec.name)
        except NotFoundError as error:
            raise TemporaryError(f"{error}. Is there a namespace {self._api.namespace}?") from error
        if spec.nodes > 1:
            self._api.create_service(service_manifest(spec, self._settings, job.metadata.uid))

    def observe(self, name: str) -> JobStatus:
        """How the Job stands; see `Launcher.observe`. One that never starts is ended as failed."""
        job = self._ours(name)
        if job is None:
            return JobStatus(state="absent")
        seen = outcome(job, self._api.pods(job), now=self._clock.now(), limits=self._limits)
        if seen.stuck:
            self._api.end_job(job, {FAILED_BECAUSE: seen.message})
        return JobStatus(
            state=seen.state, exit_code=seen.exit_code, logs=self._how_to_read(name, seen),
            message=self._with_log(seen) if seen.state == "failed" else seen.message,
        )

    def cancel(self, name: str) -> None:
        """Delete the Job, its pods first; see `Launcher.cancel`."""
        job = self._ours(name)
        if job is None or job.condition("Complete") or job.condition("Failed") or job.metadata.deletion_timestamp:
            return
        self._api.delete_job(job)

    def logs(self, name: str) -> str:
        """At most the last thousand lines, or 64 kB, of what its newest pod wrote."""
        job = self._ours(name)
        if job is None:
            return ""
        pod = outcome(job, self._api.pods(job), now=self._clock.now(), limits=self._limits).pod
        return self._tail(pod, _LOG_LINES, _LOG_BYTES) if pod else ""

    def _ours(self, name: str) -> Job | None:
        job = self._api.job(name)
        return job if job is not None and self._is_ours(job) else None

    def _is_ours(self, job: Job) -> bool:
        return job.metadata.labels.get(OWNER) == self._settings.job_owner

    def _adopted(self, name: str) -> Job:
        job = self._api.job(name)
        if job is None or job.metadata.deletion_timestamp:
            raise TemporaryError(f"a Job {name} in namespace {self._api.namespace} is being deleted just now")
        if not self._is_ours(job):
            owner = job.metadata.labels.get(OWNER)
            whose = f"belongs to the installation {owner!r}" if owner else "was not made by tuneloop"
            raise ConflictError(
                f"there is a Job {name} in namespace {self._api.namespace} that {whose}. Delete it, or give each "
                "installation a namespace of its own (TUNELOOP_JOB_NAMESPACE)"
            )
        return job

    def _with_log(self, seen: Outcome) -> str:
        """The failure with the end of the log, as far as there is one and it may be read."""
        if not seen.pod or seen.stuck:
            return seen.message
        try:
            tail = self._tail(seen.pod, _MESSAGE_LINES, _MESSAGE_BYTES).strip()
        except TemporaryError as error:
            return f"{seen.message}. Its log could not be read: {error}"
        found = f"The end of its log (pod {seen.pod}):\n{tail}" if tail else "It wrote no log."
        return f"{seen.message}. {found}"

    def _tail(self, pod: str, lines: int, size: int) -> str:
        try:
            return self._api.log(pod, lines=lines, size=size)
        except NotFoundError:
            return ""

    def _how_to_read(self, name: str, seen: Outcome) -> str:
        what = f"pod/{seen.pod}" if seen.pod else f"job/{name}"
        return f"kubectl --namespace {self._api.namespace} logs {what}"
