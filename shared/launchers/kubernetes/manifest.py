"""From a job's spec to what Kubernetes is asked for: a Job, and a headless Service for one of several nodes. Pure."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from shared.errors import InvalidInputError
from shared.launchers.kubernetes.settings import HardwareClass, KubernetesSettings
from shared.launchers.model import JobSpec
from shared.settings import PREFIX

OWNER = "tuneloop.dev/owner"
FAILED_BECAUSE = "tuneloop.dev/failed-because"
CONTAINER = "job"
CACHE, SCRATCH = "/cache", "/scratch"
S3_CA = PurePosixPath("/etc/tuneloop/s3/ca.crt")
RENDEZVOUS_PORT = 29500
# The images make this user; a number, so that Kubernetes can see that it is not root.
USER = 10001
# Where S3 is, a job must know as its service does. Credentials come from Secrets.
INHERITED = tuple(f"{PREFIX}S3_{name}" for name in ("ENDPOINT", "BUCKET", "REGION"))
_LABEL_LENGTH = 63
_PARTS = {
    "app.kubernetes.io/name": "tuneloop-job",
    "app.kubernetes.io/part-of": "tuneloop",
    "app.kubernetes.io/managed-by": "tuneloop",
}


def job_manifest(spec: JobSpec, settings: KubernetesSettings, environ: Mapping[str, str]) -> dict[str, Any]:
    """The Job that runs `spec`.

    Args:
        environ: the service's own environment.

    Raises:
        InvalidInputError: no such hardware class.
    """
    labels = labels_of(spec, settings)
    metadata: dict[str, Any] = {"name": spec.name, "labels": labels, "annotations": _annotations(spec)}
    body: dict[str, Any] = {
        # Attempts are counted by the service, which knows checkpoints; a pod that fails is the end of this one.
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": settings.job_keep_seconds,
        "template": {"metadata": {"labels": labels}, "spec": _pod(spec, settings, environ)},
    }
    if spec.timeout_seconds is not None:
        body["activeDeadlineSeconds"] = max(1, round(spec.timeout_seconds))
    if spec.nodes > 1:
        body |= {"completionMode": "Indexed", "completions": spec.nodes, "parallelism": spec.nodes}
    if settings.job_queue:
        metadata["labels"] = {**labels, "kueue.x-k8s.io/queue-name": settings.job_queue}
        body["suspend"] = True
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": body}


def service_manifest(spec: JobSpec, settings: KubernetesSettings, job_uid: str) -> dict[str, Any]:
    """The headless Service by which the pods of a job find the first of them; it goes when its Job goes."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": spec.name, "uid": job_uid}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": spec.name, "labels": labels_of(spec, settings), "ownerReferences": [owner]},
        "spec": {
            "clusterIP": "None",
            # They look for each other before any of them is ready.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": spec.name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def labels_of(spec: JobSpec, settings: KubernetesSettings) -> dict[str, str]:
    """Labels of the Job and its pods: whose they are, and what they are for as far as a label can say it."""
    own = {f"tuneloop.dev/{name}": _label(value) for name, value in spec.labels.items()}
    return {**_PARTS, OWNER: settings.job_owner, **own}


def command(spec: JobSpec) -> list[str]:
    """What the container runs: the module, or torchrun with a process for each GPU."""
    gpus = spec.gpu or 0
    if gpus <= 1 and spec.nodes == 1:
        return ["python", "-m", spec.module, *spec.args]
    torchrun = ["torchrun", f"--nproc-per-node={max(1, gpus)}"]
    if spec.nodes == 1:
        torchrun.append("--standalone")
    else:
        # Kubernetes puts the pod's index in place of the variable. Pod 0 has the others meet at its place.
        torchrun += [
            f"--nnodes={spec.nodes}", "--node-rank=$(JOB_COMPLETION_INDEX)",
            f"--master-addr={spec.name}-0.{spec.name}", f"--master-port={RENDEZVOUS_PORT}",
        ]
    return [*torchrun, "--module", spec.module, *spec.args]


def _pod(spec: JobSpec, settings: KubernetesSettings, environ: Mapping[str, str]) -> dict[str, Any]:
    hardware = _hardware(spec, settings)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": settings.job_service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": settings.job_grace_seconds,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            # A cache with many files would be gone through at every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(spec, settings, hardware, environ)],
        "volumes": _volumes(spec, settings),
    }
    if spec.nodes > 1:
        pod["subdomain"] = spec.name
    optional = {
        "nodeSelector": hardware.node_selector,
        "tolerations": hardware.tolerations,
        "runtimeClassName": hardware.runtime_class,
        "priorityClassName": settings.job_priority_class,
        "imagePullSecrets": [{"name": name} for name in settings.job_image_pull_secrets],
    }
    return pod | {name: value for name, value in optional.items() if value}


def _container(
    spec: JobSpec, settings: KubernetesSettings, hardware: HardwareClass, environ: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": settings.job_image,
        "imagePullPolicy": settings.job_image_pull_policy,
        "command": command(spec),
        "env": _environment(spec, settings, environ),
        "envFrom": [{"secretRef": {"name": name}} for name in settings.job_secrets],
        "resources": _resources(spec, settings, hardware),
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE}, {"name": "scratch", "mountPath": SCRATCH},
            *([{"name": "shared-memory", "mountPath": "/dev/shm"}] if _is_parallel(spec) else []),  # noqa: S108
            *([{"name": "s3-ca", "mountPath": str(S3_CA.parent), "readOnly": True}] if settings.job_s3_ca else []),
        ],
        # What a job that could not even start wrote is told with its end.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _environment(spec: JobSpec, settings: KubernetesSettings, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    threads = (spec.cpu or settings.job_cpu) / max(1, spec.gpu or 1)
    values = {
        "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(max(1, int(threads))), "HOME": SCRATCH, "TMPDIR": SCRATCH,
        "TUNELOOP_CACHE_DIR": CACHE,
        **{name: environ[name] for name in INHERITED if name in environ},
        **({f"{PREFIX}S3_CA_FILE": str(S3_CA)} if settings.job_s3_ca else {}),
        **({} if spec.gpu else {"NVIDIA_VISIBLE_DEVICES": "void"}),
        # torchrun passes SIGTERM on, and must leave its processes as much time as it has itself.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(1, settings.job_grace_seconds - 5)),
        **settings.job_env, **spec.env,
    }
    secrets = []
    for name, source in settings.job_secret_env.items():
        secret, _, key = source.partition("/")
        secrets.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return [{"name": name, "value": value} for name, value in values.items()] + secrets


def _resources(spec: JobSpec, settings: KubernetesSettings, hardware: HardwareClass) -> dict[str, Any]:
    memory = str(spec.memory) if spec.memory else settings.job_memory
    gpus = {hardware.gpu_resource: str(spec.gpu)} if spec.gpu else {}
    # A limit on cores would only slow a job down that nobody waits for; one on memory protects its neighbours.
    cpu = f"{round((spec.cpu or settings.job_cpu) * 1000)}m"
    return {
        "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": "1Gi", **gpus},
        "limits": {"memory": memory, **gpus},
    }


def _volumes(spec: JobSpec, settings: KubernetesSettings) -> list[dict[str, Any]]:
    claim = {"persistentVolumeClaim": {"claimName": settings.job_cache_claim}}
    scratch = {"emptyDir": {"sizeLimit": settings.job_scratch_size}}
    volumes = [
        {"name": "cache", **(claim if settings.job_cache_claim else scratch)}, {"name": "scratch", **scratch},
    ]
    if _is_parallel(spec):
        # Processes on one node exchange gradients through it, and the default of 64 MiB is too small for that.
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}})
    if settings.job_s3_ca:
        secret, _, key = settings.job_s3_ca.partition("/")
        item = {"key": key, "path": S3_CA.name}
        volumes.append({"name": "s3-ca", "secret": {"secretName": secret, "items": [item], "defaultMode": 0o440}})
    return volumes


def _hardware(spec: JobSpec, settings: KubernetesSettings) -> HardwareClass:
    known = {"default": HardwareClass()} | settings.job_hardware
    found = known.get(spec.hardware or "default")
    if found is None:
        raise InvalidInputError(
            f"job {spec.name}: no hardware class {spec.hardware!r}; TUNELOOP_JOB_HARDWARE describes "
            f"{', '.join(sorted(known))}. Correct resources.hardware in the pipeline, or the setting"
        )
    return found


def _annotations(spec: JobSpec) -> dict[str, str]:
    return {f"tuneloop.dev/{name}": value for name, value in spec.labels.items()}


def _is_parallel(spec: JobSpec) -> bool:
    return (spec.gpu or 0) > 1


def _label(value: str) -> str:
    """As much of a value as a label may have; the whole of it is in the annotation."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", value)[:_LABEL_LENGTH].strip("._-")
