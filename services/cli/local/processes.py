"""Starting, watching and ending the processes of a stack.

All carry ``TUNELOOP_STACK_ID`` in their environment, and so do the jobs that they launch: whatever carries it belongs
to the stack and is ended with it, even when the supervisor itself was killed.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STACK_ID = "TUNELOOP_STACK_ID"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# A process that stayed up this long has started well; a crash after that is a new story with a short wait.
_STABLE_SECONDS = 20.0
_MAX_BACKOFF = 10.0
_POLL = 0.02


@dataclass(frozen=True)
class Component:
    """One long-running process of the stack.

    Attributes:
        probe: URL that answers below 400 once it works; ``tcp://host:port`` where an open port must do.
        url: what a person or another command would use; empty where that is nothing.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    probe: str
    url: str = ""
    # Ten that start at once on two busy cores, from a cold disk, have taken more than 90. One that dies is not waited
    # for.
    ready_timeout: float = 240.0


@dataclass
class Running:
    """A component with its present process."""

    component: Component
    process: subprocess.Popen[bytes]
    started: float
    restarts: int = 0
    failures_in_a_row: int = 0
    retry_at: float = 0.0
    exits: list[int] = field(default_factory=list)

    def due_for_restart(self, now: float) -> bool:
        """Whether it is dead and its wait is over; notes the exit the first time it is seen."""
        code = reap(self.process)
        if code is None:
            return False
        if self.retry_at == 0.0:
            self.exits = [*self.exits[-9:], code]
            self.failures_in_a_row = 1 if now - self.started > _STABLE_SECONDS else self.failures_in_a_row + 1
            self.retry_at = now + restart_delay(self.failures_in_a_row)
        return now >= self.retry_at


def restart_delay(failures_in_a_row: int) -> float:
    """Seconds to wait before starting something again that died `failures_in_a_row` times."""
    return float(min(_MAX_BACKOFF, 0.25 * 2 ** (failures_in_a_row - 1)))


def start(component: Component, log: Path) -> subprocess.Popen[bytes]:
    """Start a component in a process group of its own; it gets SIGTERM if the supervisor dies."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(component.argv), env=dict(component.env), stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads here
        )


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def reap(process: "subprocess.Popen[bytes]") -> int | None:
    """The exit code of a component that has ended, or None; what it has left in its process group is killed first.

    vLLM's engine, which has the model in memory, outlives an API server that was killed; and as it renames itself, the
    stack's mark cannot be read from it. Jobs have groups of their own.
    """
    # Nothing to do where `end_leftovers` has reaped it.
    with suppress(ChildProcessError):
        if process.returncode is None and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            # Not reaped yet, so that the group's number cannot be anybody else's.
            os.killpg(process.pid, signal.SIGKILL)
    return process.poll()


def stop_all(processes: Sequence[subprocess.Popen[bytes]], grace: float = 20.0) -> None:
    """SIGTERM to all, and SIGKILL to those that are still there after `grace` seconds."""
    for process in processes:
        if reap(process) is None:
            os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    for process in processes:
        while reap(process) is None and time.monotonic() < deadline:
            time.sleep(_POLL)
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def end_leftovers(stack_id: str, *, spare: Sequence[int] = (), grace: float = 5.0) -> list[int]:
    """End every process that carries this stack's id: orphaned jobs, or a whole stack whose supervisor was killed.

    And their descendants, which may have lost the mark, as vLLM's have.

    Args:
        spare: pids to leave alone, besides this process and its ancestors.

    Returns:
        The pids that were ended.
    """
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents()), *spare}
    marked = [process for process in psutil.process_iter() if process.pid not in spared and _carries(process, stack_id)]
    below = {child for process in marked for child in _descendants(process) if child.pid not in spared}
    found = [*marked, *sorted(below - set(marked), key=lambda process: process.pid)]
    for process in found:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(found, timeout=grace)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=grace)
    return [process.pid for process in found]


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _carries(process: psutil.Process, stack_id: str) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(STACK_ID) == stack_id)
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def alive(pid: int, stack_id: str) -> bool:
    """Whether this pid is a live process of this stack, and not a newcomer that got the number."""
    try:
        return _carries(psutil.Process(pid), stack_id)
    except psutil.NoSuchProcess:
        return False


def resident_mib(pid: int) -> float | None:
    """Resident memory of a process in MiB, or None if it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.NoSuchProcess:
        return None


def environment(**values: str) -> dict[str, str]:
    """This process's environment without tuneloop's own variables, plus `values`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TUNELOOP_")}
    return inherited | values
