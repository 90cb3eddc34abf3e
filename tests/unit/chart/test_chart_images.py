"""Chart and Dockerfiles agree: which image has which module, who the user is, and where may be written."""

import re
from typing import Any

import pytest

from tests.support.chart import CHART, VARIANTS, pods, variant

DOCKER = CHART.parents[1] / "docker"
DOCKERFILES = {"control-plane": "control-plane.Dockerfile", "trainer": "trainer.Dockerfile", "vllm": "vllm.Dockerfile"}


def dockerfile(image: str) -> str:
    name = image.rpartition("/")[2].partition(":")[0].partition("@")[0]
    return (DOCKER / DOCKERFILES[name]).read_text()


def extras(text: str) -> set[str]:
    found = re.search(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)
    return set(found[1].split(",")) if found else set()


def module_of(container: dict[str, Any]) -> str:
    command = container["command"]
    return str(command[2]) if command[1:2] == ["-m"] else ""


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_container_runs_is_in_its_image(name: str) -> None:
    for pod in pods(variant(name)):
        for container in pod.containers:
            module = module_of(container)
            if module.endswith("vllm_server"):
                assert "FROM ${VLLM_IMAGE}" in dockerfile(container["image"])
            elif module:
                extra = module.rpartition(".")[2].replace("_", "-")
                assert extra in extras(dockerfile(container["image"])), f"{container['image']} has no {module}"


@pytest.mark.parametrize("name", VARIANTS)
def test_jobs_run_in_an_image_that_can_train_and_evaluate(name: str) -> None:
    images = {item["value"] for pod in pods(variant(name)) for container in pod.containers
              for item in container.get("env", []) if item["name"] == "TUNELOOP_JOB_IMAGE"}
    (image,) = images
    assert {"training-job", "evaluation-job"} <= extras(dockerfile(image))


@pytest.mark.parametrize("name", VARIANTS)
def test_pods_run_as_the_user_of_their_images(name: str) -> None:
    for pod in pods(variant(name)):
        context = pod.spec["securityContext"]
        for container in pod.containers:
            (user,) = re.findall(r"^USER (.*)$", dockerfile(container["image"]), re.MULTILINE)
            assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
            python = "python3" if container["image"].rpartition("/")[2].startswith("vllm") else "python"
            assert container["command"][0] == python


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_service_writes_to_is_a_volume(name: str) -> None:
    for pod in pods(variant(name)):
        for container in pod.containers:
            mounted = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            told = {item["name"]: str(item.get("value", "")) for item in container.get("env", [])}
            launches = "TUNELOOP_LAUNCHER" in told
            for key in ("TUNELOOP_WORK_DIR", "TUNELOOP_STATE_DIR", "TUNELOOP_CACHE_DIR", "HOME", "XDG_CACHE_HOME",
                        "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR"):
                # What trainer and evaluator call their cache is the jobs' own.
                if key in told and not (launches and key == "TUNELOOP_CACHE_DIR"):
                    assert any(told[key] == path or told[key].startswith(f"{path}/") for path in mounted), key
