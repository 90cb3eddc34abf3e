"""Nothing of a stack is left behind: not orphans, not children of a killed supervisor."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.cli.local.processes import (
    STACK_ID,
    Component,
    Running,
    alive,
    end_leftovers,
    reap,
    start,
    stop_all,
)
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

SLEEPER = "import time; time.sleep(600)"


def component(code: str, stack: str) -> Component:
    return Component("sleeper", [sys.executable, "-c", code], {**os.environ, STACK_ID: stack}, "tcp://127.0.0.1:1")


def test_leftovers_of_this_stack_are_ended_and_no_others(tmp_path: Path) -> None:
    ours, theirs = (start(component(SLEEPER, stack), tmp_path / "log") for stack in ("ours", "theirs"))
    try:
        eventually(lambda: alive(ours.pid, "ours") and alive(theirs.pid, "theirs"))
        assert end_leftovers("ours") == [ours.pid]
        assert not psutil.pid_exists(ours.pid)
        assert alive(theirs.pid, "theirs")
        assert not alive(theirs.pid, "ours")
    finally:
        stop_all([ours, theirs])


def lives(process: psutil.Process) -> bool:
    """Whether it lives; zombies do not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def family(folder: Path) -> Component:
    """A component with a child in its group that has lost the stack's mark, as vLLM's engine, and a job of its own."""
    return component(f"""
import os, subprocess, sys, time
for name, environment, own_group in (("engine", {{}}, False), ("job", None, True)):
    child = subprocess.Popen([sys.executable, "-c", {SLEEPER!r}], env=environment, start_new_session=own_group)
    open({str(folder)!r} + "/" + name, "w").write(str(child.pid))
open({str(folder)!r} + "/ready", "w")
time.sleep(600)
""", "stack")


def test_what_a_killed_component_leaves_in_its_group_is_ended_and_no_job(tmp_path: Path) -> None:
    process = start(family(tmp_path), tmp_path / "log")
    eventually((tmp_path / "ready").exists)
    engine, job = (psutil.Process(int((tmp_path / name).read_text())) for name in ("engine", "job"))
    assert reap(process) is None
    os.kill(process.pid, signal.SIGKILL)
    assert eventually(lambda: reap(process)) == -signal.SIGKILL
    try:
        eventually(lambda: not lives(engine))
        assert lives(job)
    finally:
        assert end_leftovers("stack") == [job.pid]


def test_children_without_the_mark_are_ended_with_their_parent(tmp_path: Path) -> None:
    process = start(family(tmp_path), tmp_path / "log")
    eventually((tmp_path / "ready").exists)
    engine, job = (int((tmp_path / name).read_text()) for name in ("engine", "job"))
    assert set(end_leftovers("stack")) == {process.pid, engine, job}
    process.wait()


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = component("import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(600)", "x")
    process = start(stubborn, tmp_path / "log")
    eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING and alive(process.pid, "x"))
    eventually(lambda: _ignores_sigterm(process.pid))
    stop_all([process], grace=0.2)
    assert process.returncode == -signal.SIGKILL


def _ignores_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1]
    return bool(int(mask, 16) & 1 << (signal.SIGTERM - 1))


def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", f"""
import os, sys, time
from pathlib import Path
from services.cli.local.processes import Component, start
folder = Path({str(tmp_path)!r})
child = start(Component("c", [sys.executable, "-c", {SLEEPER!r}], dict(os.environ), ""), folder / "log")
(folder / "pid").write_text(str(child.pid))
time.sleep(600)
"""], env={**os.environ, STACK_ID: "orphaned", "PYTHONPATH": str(Path.cwd())})
    try:
        child = int(eventually((tmp_path / "pid").read_text))
        eventually(lambda: alive(child, "orphaned"))
        supervisor.kill()
        supervisor.wait()
        eventually(lambda: not alive(child, "orphaned"), what="the child's end")
    finally:
        supervisor.kill()
        supervisor.wait()
        end_leftovers("orphaned")


def test_a_dead_component_is_due_after_its_wait(tmp_path: Path) -> None:
    dying = component("raise SystemExit(3)", "y")
    running = Running(dying, start(dying, tmp_path / "log"), started=0.0)
    running.process.wait(30)
    assert not running.due_for_restart(1.0)
    assert running.exits == [3]
    assert not running.due_for_restart(1.2)
    assert running.due_for_restart(1.3)
