"""The process that keeps one local job: starts it, enforces its timeout, ends it on request, notes how it ended.

Run as ``python -m shared.launchers.keeper FOLDER SECONDS``: so long may the job take to end after SIGTERM. It
detaches at once, so that neither the end of the service that launched it nor a signal to that service's terminal
reaches the job. The foreground process returns once the job is claimed. Only the standard library and pydantic are
imported: a keeper lives as long as its job.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from shared.launchers.folder import EndReason, Exit, JobFolder
from shared.launchers.model import JobSpec
from shared.launchers.processes import end_group, identify

_LONGEST_WAIT_SECONDS = 3600.0
_PR_SET_PDEATHSIG = 1


# Taken one after another by `_await_end` instead of interrupting whatever runs.
_SIGNALS = {signal.SIGTERM, signal.SIGCHLD}


def main(folder: JobFolder, grace_seconds: float) -> int:
    """Detach and keep the job; the exit code of the foreground process."""
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        # The keeper writes once the job is claimed; if it dies before, the pipe ends.
        return 0 if os.read(read, 1) else 1
    os.close(read)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    os.setsid()
    _detach_streams(folder)
    me = identify(os.getpid())
    spec = folder.spec()
    if me is None or spec is None:
        return 1
    claimed = folder.claim(me)
    os.write(write, b"1")
    os.close(write)
    if claimed:
        folder.write_exit(keep(folder, spec, grace_seconds))
    return 0


def keep(folder: JobFolder, spec: JobSpec, grace_seconds: float) -> Exit:
    """Run the job to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", spec.module, *spec.args],
        env=environment(spec), stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_prepare_job,  # noqa: PLW1509 - one thread here
    )
    job = identify(process.pid)
    if job is not None:
        folder.write_job(job)
    reason = _await_end(process, spec.timeout_seconds)
    if reason != "ended":
        _stop(process, grace_seconds)
    if job is not None:
        end_group(job, signal.SIGKILL)  # what the job left behind
    return Exit(exit_code=_exit_code(process.returncode), reason=reason)


def environment(spec: JobSpec) -> dict[str, str]:
    """What the launching service has, and what the spec adds."""
    threads = {"OMP_NUM_THREADS": str(max(1, round(spec.cpu)))} if spec.cpu else {}
    return {"PYTHONUNBUFFERED": "1", **os.environ, **threads, **spec.env}


def _await_end(process: subprocess.Popen[bytes], timeout: float | None) -> EndReason:
    deadline = None if timeout is None else time.monotonic() + timeout
    while process.poll() is None:
        left = _LONGEST_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return "timeout"
        received = signal.sigtimedwait(_SIGNALS, min(left, _LONGEST_WAIT_SECONDS))
        if received is not None and received.si_signo == signal.SIGTERM:
            return "cancelled"
    return "ended"


def _stop(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _exit_code(returncode: int) -> int:
    """As shells and Kubernetes count: 128 + N for signal N."""
    return returncode if returncode >= 0 else 128 - returncode


def _prepare_job() -> None:
    """Runs in the job before its program."""
    # A job without its keeper could neither be ended nor seen to end: it dies with it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Serving on the same machine comes first; latency under training would look like a bad candidate.
    os.nice(10)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _detach_streams(folder: JobFolder) -> None:
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, stream in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, stream)
    os.close(log)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(JobFolder(Path(sys.argv[1])), float(sys.argv[2])))
