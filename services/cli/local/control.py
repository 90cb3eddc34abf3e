"""Starting and ending a local stack from another process: what `tuneloop up`, `down` and the demo do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from services.cli.local.home import Home
from services.cli.local.processes import alive, end_leftovers, environment
from services.cli.local.supervisor import Request, tail
from shared.errors import TuneloopError

_POLL = 0.1


class StackError(TuneloopError):
    """The stack did not do what was asked of it."""


def is_up(home: Home) -> bool:
    """Whether this home's supervisor is alive."""
    stack = home.read_stack()
    return stack is not None and alive(int(stack["pid"]), home.stack_id)


def up(
    home: Home, request: Request, *, say: Callable[[str], None], timeout: float = 600.0
) -> "subprocess.Popen[bytes]":
    """Start the stack and wait until all of it works.

    Args:
        say: told what is being waited for, whenever that changes.

    Returns:
        The supervisor, which goes on by itself; whoever outlives it waits for it after `down`, as for any child.

    Raises:
        StackError: with the component and the end of its log, if it does not come up. Nothing is left running.
    """
    if is_up(home):
        raise StackError(f"a stack already runs in {home.root}; see `tuneloop status`, or `tuneloop down` first")
    home.create()
    home.stack_file.unlink(missing_ok=True)
    log = home.logs / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli.local.supervisor", str(home.root), request.encode()],
            env=environment(TUNELOOP_STACK_ID=home.stack_id), stdout=output, stderr=output,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )
    try:
        _wait_ready(home, process, say, timeout)
    except BaseException:
        # Also on Ctrl-C: a stack that nobody waited for is a stack that nobody ends.
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        raise
    return process


def _wait_ready(home: Home, process: "subprocess.Popen[bytes]", say: Callable[[str], None], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    said = ""
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        stack = home.read_stack() or {"phase": "starting", "message": "", "pid": process.pid}
        if stack["pid"] == process.pid and stack["message"] != said:
            said = stack["message"]
            say(said)
        if stack["phase"] == "ready":
            return
        if ended:
            raise StackError(stack["message"] or f"the supervisor ended: {tail(home.logs / 'supervisor.log')}")
        time.sleep(_POLL)
    raise StackError(f"the stack was not ready after {timeout:.0f} s; it was still {said or 'starting'}")


def down(home: Home, *, timeout: float = 60.0) -> bool:
    """End the stack and everything that it started; False if nothing ran."""
    stack = home.read_stack()
    ran = stack is not None and alive(int(stack["pid"]), home.stack_id)
    if stack is not None and ran:
        supervisor = psutil.Process(int(stack["pid"]))
        os.kill(supervisor.pid, signal.SIGTERM)
        try:
            supervisor.wait(timeout)
        except psutil.TimeoutExpired:
            supervisor.kill()
    return bool(end_leftovers(home.stack_id)) or ran
