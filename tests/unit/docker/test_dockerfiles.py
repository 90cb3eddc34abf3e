"""The Dockerfiles as far as they can be judged without building them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shared.launchers.kubernetes.manifest import USER

ROOT = Path(__file__).parents[3]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
HADOLINT = Path(sys.executable).parent / "hadolint"


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.stem)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def instructions(path: Path, word: str) -> list[str]:
    text = path.read_text().replace("\\\n", " ")
    return re.findall(rf"^{word} +(.*)$", text, re.MULTILINE)


def test_there_is_one_for_each_image() -> None:
    assert [path.stem for path in DOCKERFILES] == ["control-plane", "trainer", "vllm"]


def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    done = subprocess.run([HADOLINT, str(dockerfile)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_bases_can_be_pinned_by_digest_and_name_no_registry(dockerfile: Path) -> None:
    defaults = dict(line.split("=", 1) for line in instructions(dockerfile, "ARG"))
    for base in instructions(dockerfile, "FROM"):
        name = base.split()[0].removeprefix("${").removesuffix("}")
        assert base.startswith("${"), f"{base}: a build argument"
        image, _, tag = defaults[name].partition(":")
        assert tag not in {"", "latest"}
        assert "." not in image


def test_it_ends_as_the_user_that_pods_run_as(dockerfile: Path) -> None:
    last_stage = dockerfile.read_text().rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", last_stage, re.MULTILINE) == [f"{USER}:{USER}"]
    assert f"--uid {USER}" in last_stage


def test_what_is_copied_is_there_and_not_ignored(dockerfile: Path) -> None:
    admitted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in instructions(dockerfile, "COPY"):
        if line.startswith("--from"):
            continue
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == name or source.startswith(f"{name}/") for name in admitted), source


def requirements(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "docker/requirements.py"
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


def test_each_image_has_only_what_its_extras_need(dockerfile: Path) -> None:
    (extras,) = [line.split("=", 1)[1] for line in instructions(dockerfile, "ARG") if line.startswith("EXTRAS=")] or [
        "vllm"
    ]
    done = requirements(*(["--only"] if dockerfile.stem == "vllm" else []), extras)
    assert done.returncode == 0, done.stderr
    names = {re.split(r"[\[<>=]", line)[0] for line in done.stdout.splitlines()}
    assert ("torch" in names) == (dockerfile.stem == "trainer")
    assert ("fastapi" in names) == (dockerfile.stem != "vllm"), "vLLM's own stays"
    assert "pytest" not in names


def test_an_extra_that_does_not_exist_stops_the_build() -> None:
    done = requirements("gateway,typo")
    assert (done.returncode, done.stderr) == (2, "pyproject.toml has no extra 'typo'\n")


def test_extras_of_images_name_no_extras_themselves() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in DOCKERFILES:
        for line in instructions(path, "ARG"):
            for extra in line.removeprefix("EXTRAS=").split(",") if line.startswith("EXTRAS=") else []:
                # requirements.py reads one level.
                assert not any(requirement.startswith("tuneloop[") for requirement in extras[extra]), extra
