"""Keeps a local stack running: starts it in order, restarts what dies, ends all of it.

    python -m services.cli.local.supervisor HOME OPTIONS_JSON

Started by `tuneloop up`; commands learn about it from ``stack.json``. A supervisor that is started for a parent
(``parent`` in the options) ends when that parent does, so that an interrupted demo leaves nothing behind.
"""

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from services.cli.local import plan as planning
from services.cli.local import probes, seed
from services.cli.local.checks import MachineError, check_disk, choose_ports, find_binaries
from services.cli.local.home import Home, write_private
from services.cli.local.processes import Component, Running, end_leftovers, environment, start, stop_all
from shared.errors import TuneloopError

_TICK = 0.2
# SeaweedFS waits 15 s for streams between its own parts. What it has acknowledged is with the kernel by then, and
# outlives its process.
_S3_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Request:
    """What `tuneloop up` asks for.

    Attributes:
        options: see `planning.Options`.
        ports: ports that a person chose, by name.
        parent: pid that this stack must not outlive; 0 for none.
    """

    options: planning.Options
    ports: dict[str, int] = field(default_factory=dict)
    parent: int = 0

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Request":
        content = json.loads(text)
        return cls(planning.Options(**content["options"]), content["ports"], content["parent"])


class Supervisor:
    """One local stack from start to end."""

    def __init__(self, home: Home, request: Request) -> None:
        self._home = home
        self._request = request
        self._stop = threading.Event()
        self._running: list[Running] = []
        self._phase = "starting"
        self._message = ""
        self._plan: planning.Plan | None = None
        self._written: dict[str, Any] = {}

    def ask_to_stop(self, *_: object) -> None:
        """Signal handler: begin the orderly end."""
        self._stop.set()

    def run(self) -> int:
        """Start everything, watch it until asked to stop, end everything; the exit code."""
        code = 0
        try:
            self._start()
            if not self._stop.is_set():
                self._say("ready", "")
            while not self._stop.wait(_TICK):
                self._watch()
        except (TuneloopError, OSError) as error:
            self._say("failed", str(error))
            code = 1
        finally:
            self._end()
        return code

    def _start(self) -> None:
        self._say("starting", "checking the machine")
        ended = end_leftovers(self._home.stack_id)
        if ended:
            self._say("starting", f"ended {len(ended)} processes that an earlier run left behind")
        check_disk(self._home.root)
        self._plan = plan = planning.Plan(
            home=self._home,
            ports=choose_ports(planning.PORTS | self._request.ports, set(self._request.ports)),
            binaries=find_binaries(vllm=self._request.options.engine == "vllm"),
            credentials=self._home.credentials(),
            options=self._request.options,
            inherited=environment(),
        )
        for folder in ("s3", "prometheus", "gateway", "cache"):
            (self._home.data / folder).mkdir(parents=True, exist_ok=True)
        write_private(planning.s3_config_path(self._home), json.dumps(planning.s3_config(plan.credentials)))
        write_private(planning.prometheus_config_path(self._home), planning.prometheus_config(plan))
        self._launch([planning.storage(plan)])
        from shared.s3 import connect_store  # slow to import, and every command imports this module

        with connect_store(seed.store_settings(plan)) as store:
            seed.buckets(store, plan)
            self._launch([planning.broker(plan), planning.prometheus(plan)])
            seed.topics(plan.bootstrap)
            seed.base_model(store, plan.options.base_model, say=lambda text: self._say("starting", text))
        self._launch(planning.services(plan))

    def _launch(self, components: Sequence[Component]) -> None:
        """Start some components together and wait until all of them work."""
        if self._stop.is_set():
            return
        started = [self._start_one(component) for component in components]
        for running in started:
            self._say("starting", f"waiting for {running.component.name}")
            self._wait_ready(running)

    def _start_one(self, component: Component) -> Running:
        running = Running(component, start(component, self._log(component.name)), time.monotonic())
        self._running.append(running)
        return running

    def _wait_ready(self, running: Running) -> None:
        deadline = time.monotonic() + running.component.ready_timeout
        while not probes.answers(running.component.probe):
            self._watch()
            if self._stop.wait(0.1):
                return
            if time.monotonic() > deadline:
                name = running.component.name
                raise MachineError(
                    f"{name} did not get ready within {running.component.ready_timeout:.0f} s. "
                    f"Its log, {self._log(name)}, ends with: {tail(self._log(name))}"
                )

    def _watch(self) -> None:
        """Restart what died; end with the parent where there is one."""
        now = time.monotonic()
        for running in self._running:
            if running.due_for_restart(now):
                running.process = start(running.component, self._log(running.component.name))
                running.started, running.retry_at = now, 0.0
                running.restarts += 1
        if self._request.parent and not psutil.pid_exists(self._request.parent):
            self._stop.set()
        self._publish()

    def _end(self) -> None:
        failed = self._phase == "failed"
        if not failed:
            self._say("stopping", "")
        # The log and the store go last: the services still acknowledge what they have done.
        infrastructure = {"s3", "kafka", "prometheus"}
        stop_all([r.process for r in self._running if r.component.name not in infrastructure])
        end_leftovers(self._home.stack_id, spare=[r.process.pid for r in self._running])
        for name, grace in (("prometheus", 20.0), ("kafka", 20.0), ("s3", _S3_GRACE_SECONDS)):
            stop_all([r.process for r in self._running if r.component.name == name], grace)
        self._running.clear()
        self._say("failed" if failed else "stopped", self._message if failed else "")

    def _say(self, phase: str, message: str) -> None:
        self._phase, self._message = phase, message
        self._publish()

    def _publish(self) -> None:
        """Write stack.json when something in it changed."""
        content: dict[str, Any] = {
            "phase": self._phase,
            "message": self._message,
            "pid": os.getpid(),
            "stack_id": self._home.stack_id,
            "base_model": self._request.options.base_model,
            "services": {r.component.name: {"url": r.component.url, "probe": r.component.probe, "pid": r.process.pid,
                                            "restarts": r.restarts, "exits": r.exits,
                                            "log": str(self._log(r.component.name))}
                         for r in self._running},
        }
        if self._plan is not None:
            content["prometheus"] = {"url": self._plan.url("prometheus")}
            content["kafka"] = {"bootstrap": self._plan.bootstrap}
            content["s3"] = {"endpoint": self._plan.url("s3"), "bucket": seed.BUCKET}
        if content != self._written:
            self._home.write_stack(content)
            self._written = content

    def _log(self, name: str) -> Path:
        return self._home.logs / f"{name}.log"


def tail(path: Path, lines: int = 3) -> str:
    """The last lines of a log, for an error message."""
    try:
        return " | ".join(path.read_text(errors="replace").splitlines()[-lines:]) or "(empty)"
    except FileNotFoundError:
        return "(no log)"


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold the stack's lock, so that two supervisors never share a folder.

    Raises:
        MachineError: if another one runs.
    """
    with (home.root / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MachineError(f"a stack already runs in {home.root}; `tuneloop status` shows it") from error
        yield


def main(arguments: Sequence[str], *, install: Callable[..., object] = signal.signal) -> int:
    """Run a supervisor; the exit code."""
    home = Home(Path(arguments[0]))
    home.create()
    supervisor = Supervisor(home, Request.decode(arguments[1]))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        install(number, supervisor.ask_to_stop)
    try:
        with only_one(home):
            return supervisor.run()
    except MachineError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
