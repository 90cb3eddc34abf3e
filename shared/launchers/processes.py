"""Processes of this machine, told apart across pid reuse and reboots. Linux only: it reads /proc."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from shared.launchers.folder import ProcessId


def identify(pid: int) -> ProcessId | None:
    """The process that has `pid` now; None where there is none, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may contain anything; the fields after it do not.
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else ProcessId(pid=pid, started=int(fields[18]), boot=_boot_id())


def is_alive(process: ProcessId) -> bool:
    """Whether this very process still runs."""
    return identify(process.pid) == process


def end_group(leader: ProcessId, number: signal.Signals) -> None:
    """Send a signal to the process group that `leader` made, also where the leader itself is gone.

    The kernel gives a pid to nobody while a group of that number lives. So if another process has the leader's pid
    now, the group is empty and there is nothing to do.
    """
    holder = identify(leader.pid)
    if leader.boot == _boot_id() and holder in (None, leader):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, number)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
