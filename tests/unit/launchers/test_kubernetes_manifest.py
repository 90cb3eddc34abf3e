"""What a job's spec becomes on Kubernetes: valid against its schemas, without secrets, and safe."""

import json
from typing import Any

import kubernetes_validate
import pytest
from pydantic import ValidationError

from shared.errors import InvalidInputError
from shared.launchers import JobSpec, LauncherSettings
from shared.launchers.kubernetes.manifest import job_manifest, service_manifest
from shared.launchers.kubernetes.settings import HardwareClass

ENVIRON = {
    "TUNELOOP_S3_ENDPOINT": "http://s3:8333", "TUNELOOP_S3_BUCKET": "artifacts", "TUNELOOP_S3_ACCESS_KEY": "AKIA",
    "TUNELOOP_S3_SECRET_KEY": "hush", "TUNELOOP_DATABASE_URL": "postgresql://u:hush@db/trainer", "PATH": "/bin",
}
EVERYTHING: dict[str, Any] = {
    "job_owner": "prod", "job_queue": "gpus", "job_priority_class": "batch", "job_cache_claim": "models",
    "job_image_pull_secrets": "registry, other", "job_secrets": "tuneloop-s3", "job_env": {"NCCL_DEBUG": "WARN"},
    "job_secret_env": {"TUNELOOP_S3_ACCESS_KEY": "minio/user"}, "job_s3_ca": "company-ca/tls.crt",
    "job_hardware": {"a100": {"nodeSelector": {"gpu": "a100"}, "tolerations": [{"key": "gpu", "operator": "Exists"}],
                              "runtimeClass": "nvidia"}},
}


def settings(**changes: Any) -> LauncherSettings:
    return LauncherSettings(launcher="kubernetes", job_image="tuneloop/trainer:1", **changes)


def spec(**changes: Any) -> JobSpec:
    job = {"name": "train-intents-1", "module": "services.trainer.job", "args": ["uri"]}
    return JobSpec.model_validate({**job, **changes})


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return pod_of(manifest)["containers"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("chosen", [{}, EVERYTHING])
@pytest.mark.parametrize("asked", [
    {}, {"cpu": 0.5, "memory": 2**31, "gpu": 1, "hardware": None},
    {"gpu": 4, "labels": {"run": "intents-v1-0a", "attempt": "2"}, "timeout_seconds": 3600}, {"gpu": 8, "nodes": 2},
])
def test_kubernetes_schemas_accept_it(chosen: dict[str, Any], asked: dict[str, Any]) -> None:
    hardware = {"hardware": "a100"} if chosen and "hardware" not in asked else {}
    job = spec(**asked, **hardware)
    for manifest in (job_manifest(job, settings(**chosen), ENVIRON), service_manifest(job, settings(**chosen), "u-1")):
        kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_secrets_are_named_and_never_given() -> None:
    manifest = job_manifest(spec(), settings(**EVERYTHING), ENVIRON)
    assert "hush" not in json.dumps(manifest)
    assert "AKIA" not in json.dumps(manifest)
    container = container_of(manifest)
    assert container["envFrom"] == [{"secretRef": {"name": "tuneloop-s3"}}]
    environment = {item["name"]: item for item in container["env"]}
    assert environment["TUNELOOP_S3_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "minio", "key": "user"}
    assert environment["TUNELOOP_S3_BUCKET"]["value"] == "artifacts"
    assert "TUNELOOP_DATABASE_URL" not in environment
    assert "PATH" not in environment


def test_who_signed_for_s3_is_a_file_in_the_job() -> None:
    manifest = job_manifest(spec(), settings(**EVERYTHING), ENVIRON)
    (mount,) = [mount for mount in container_of(manifest)["volumeMounts"] if mount["name"] == "s3-ca"]
    (volume,) = [volume for volume in pod_of(manifest)["volumes"] if volume["name"] == "s3-ca"]
    assert volume["secret"]["secretName"] == "company-ca"
    (item,) = volume["secret"]["items"]
    assert item["key"] == "tls.crt"
    environment = {item["name"]: item.get("value") for item in container_of(manifest)["env"]}
    assert environment["TUNELOOP_S3_CA_FILE"] == f"{mount['mountPath']}/{item['path']}"
    assert "S3_CA" not in json.dumps(job_manifest(spec(), settings(), ENVIRON))


def test_the_pod_may_do_nothing_that_it_need_not() -> None:
    pod = pod_of(job_manifest(spec(), settings(), ENVIRON))
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert {item["value"] for item in pod["containers"][0]["env"] if item["name"] in {"HOME", "TMPDIR"}} <= writable


def test_attempts_are_counted_by_the_service_alone() -> None:
    manifest = job_manifest(spec(timeout_seconds=90.4), settings(job_grace_seconds=77), {})
    assert manifest["spec"]["backoffLimit"] == 0
    assert manifest["spec"]["activeDeadlineSeconds"] == 90
    assert pod_of(manifest)["restartPolicy"] == "Never"
    assert pod_of(manifest)["terminationGracePeriodSeconds"] == 77


def test_resources_are_those_of_the_recipe_or_of_the_settings() -> None:
    assert container_of(job_manifest(spec(), settings(), {}))["resources"] == {
        "requests": {"cpu": "2000m", "memory": "8Gi", "ephemeral-storage": "1Gi"}, "limits": {"memory": "8Gi"},
    }
    hardware = {"amd": HardwareClass(gpu_resource="amd.com/gpu")}
    asked = spec(cpu=1.5, memory=2**30, gpu=2, hardware="amd")
    resources = container_of(job_manifest(asked, settings(job_hardware=hardware), {}))["resources"]
    assert resources["limits"] == {"memory": "1073741824", "amd.com/gpu": "2"}
    assert resources["requests"]["cpu"] == "1500m"


def test_a_job_without_a_gpu_sees_none() -> None:
    def visible(**asked: Any) -> set[str]:
        items = container_of(job_manifest(spec(**asked), settings(), {}))["env"]
        return {item["value"] for item in items if item["name"] == "NVIDIA_VISIBLE_DEVICES"}

    assert visible() == visible(gpu=0) == {"void"}
    assert visible(gpu=1) == set()


def test_hardware_classes_choose_nodes() -> None:
    pod = pod_of(job_manifest(spec(hardware="a100"), settings(**EVERYTHING), {}))
    assert pod["nodeSelector"] == {"gpu": "a100"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["runtimeClassName"] == "nvidia"
    with pytest.raises(InvalidInputError, match="no hardware class 'h100'; TUNELOOP_JOB_HARDWARE describes a100, def"):
        job_manifest(spec(hardware="h100"), settings(**EVERYTHING), {})


@pytest.mark.parametrize(("asked", "command"), [
    ({}, "python -m services.trainer.job uri"),
    ({"gpu": 1}, "python -m services.trainer.job uri"),
    ({"gpu": 4}, "torchrun --nproc-per-node=4 --standalone --module services.trainer.job uri"),
    ({"gpu": 8, "nodes": 2}, "torchrun --nproc-per-node=8 --nnodes=2 --node-rank=$(JOB_COMPLETION_INDEX) "
     "--master-addr=train-intents-1-0.train-intents-1 --master-port=29500 --module services.trainer.job uri"),
])
def test_more_than_one_gpu_is_for_torchrun(asked: dict[str, Any], command: str) -> None:
    assert " ".join(container_of(job_manifest(spec(**asked), settings(), {}))["command"]) == command


def test_labels_say_whose_it_is_and_annotations_say_it_in_full() -> None:
    run = "support intents/" + "x" * 80
    metadata = job_manifest(spec(labels={"run": run}), settings(job_owner="prod"), {})["metadata"]
    assert metadata["labels"]["tuneloop.dev/owner"] == "prod"
    assert metadata["labels"]["tuneloop.dev/run"] == ("support-intents-" + "x" * 80)[:63]
    assert metadata["annotations"] == {"tuneloop.dev/run": run}


@pytest.mark.parametrize(("wrong", "words"), [
    ({"launcher": "kubernetes"}, "set TUNELOOP_JOB_IMAGE"),
    ({"job_memory": "plenty"}, "job_memory"),
    ({"job_hardware": {"a": {"nodeselector": {}}}}, "job_hardware.a.nodeselector"),
    ({"job_owner": "two words"}, "job_owner"),
])
def test_wrong_settings_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LauncherSettings.model_validate(wrong)


def test_a_secret_where_its_name_belongs_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELOOP_JOB_SECRET_ENV", '{"TUNELOOP_S3_SECRET_KEY": "hush hush"}')
    with pytest.raises(ValidationError, match="TUNELOOP_S3_SECRET_KEY: write the name of a Secret and") as caught:
        LauncherSettings()
    assert "hush" not in str(caught.value)
