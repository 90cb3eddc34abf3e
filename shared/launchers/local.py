"""Jobs as processes of this machine, for development, tests and single-machine installations.

State is in files and in the kernel only, so any number of launchers on the same folder agree, and a launcher that
was restarted knows everything that the one before it did. Memory and GPU requests are not enforced here.
"""

import signal
import subprocess
import sys
from pathlib import Path

from shared.errors import TemporaryError
from shared.launchers.folder import Exit, JobFolder
from shared.launchers.model import JobSpec, JobStatus
from shared.launchers.processes import end_group, is_alive

_START_SECONDS = 30.0
_GRACE_SECONDS = 120.0
_LOG_BYTES = 64_000
_MESSAGE_BYTES = 2_000


class SubprocessLauncher:
    """Runs each job under a keeper process (see `shared.launchers.keeper`) in a folder of its own below `root`.

    Args:
        grace_seconds: from SIGTERM to SIGKILL.
    """

    def __init__(self, root: Path, grace_seconds: float = _GRACE_SECONDS) -> None:
        self._root, self._grace_seconds = root.absolute(), grace_seconds

    def launch(self, spec: JobSpec) -> None:
        """Start a job; see `Launcher.launch`. Returns when the job has a keeper."""
        folder = self._folder(spec.name)
        if folder.keeper() is not None:
            return
        folder.create(spec)
        command = [sys.executable, "-m", "shared.launchers.keeper", str(folder.path), str(self._grace_seconds)]
        try:
            # The keeper claims the job itself: of two launches at the same time one keeper ends at once.
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_START_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TemporaryError(f"job {spec.name} could not be started on this machine: {error}") from error
        if done.returncode != 0:
            said = done.stderr.strip() or folder.tail(_MESSAGE_BYTES).strip()
            raise TemporaryError(f"job {spec.name} could not be started on this machine: {said}")

    def observe(self, name: str) -> JobStatus:
        """How the job stands; see `Launcher.observe`."""
        folder = self._folder(name)
        keeper = folder.keeper()
        if keeper is None:
            return JobStatus(state="absent")
        if folder.exit() is None and is_alive(keeper):
            return JobStatus(state="running")
        # Read again: the job may have ended between the two looks.
        end = folder.exit()
        if end is None:
            self._bury(folder)
            return JobStatus(state="failed", message=_vanished(folder))
        if end.exit_code == 0 and end.reason == "ended":
            return JobStatus(state="succeeded", exit_code=0)
        return JobStatus(state="failed", exit_code=end.exit_code, message=_explain(end, folder))

    def cancel(self, name: str) -> None:
        """End the job and all that it started; see `Launcher.cancel`. SIGKILL follows SIGTERM after the grace."""
        folder = self._folder(name)
        keeper = folder.keeper()
        if keeper is None or folder.exit() is not None:
            return
        folder.mark_cancelled()
        if is_alive(keeper):
            end_group(keeper, signal.SIGTERM)
        else:
            self._bury(folder)

    def logs(self, name: str) -> str:
        """At most the last 64 kB of what the job wrote."""
        return self._folder(name).tail(_LOG_BYTES)

    def _folder(self, name: str) -> JobFolder:
        return JobFolder(self._root / name)

    def _bury(self, folder: JobFolder) -> None:
        """End what a killed keeper left behind; the kernel ends the job itself, but not what the job had started."""
        job = folder.job()
        if job is not None:
            end_group(job, signal.SIGKILL)


def _vanished(folder: JobFolder) -> str:
    how = "was cancelled" if folder.is_cancelled() else "was killed, or the machine was restarted"
    return _with_log(f"the job {how}; nobody saw its exit code", folder)


def _explain(end: Exit, folder: JobFolder) -> str:
    if end.reason == "cancelled":
        return "the job was cancelled"
    if end.reason == "timeout":
        spec = folder.spec()
        limit = f" of {spec.timeout_seconds:g} s" if spec and spec.timeout_seconds else ""
        return _with_log(f"the job ran longer than its limit{limit} and was ended", folder)
    if end.exit_code == 128 + signal.SIGKILL:
        return _with_log("the job was killed (SIGKILL); is the machine short of memory?", folder)
    if end.exit_code > 128:
        return _with_log(f"the job was ended by signal {end.exit_code - 128}", folder)
    return _with_log(f"the job ended with exit code {end.exit_code}", folder)


def _with_log(what: str, folder: JobFolder) -> str:
    tail = folder.tail(_MESSAGE_BYTES).strip()
    return f"{what}. The end of its log ({folder.log}):\n{tail}" if tail else f"{what}. It wrote no log."
