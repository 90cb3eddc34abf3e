"""A running local stack, as tests see it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.cli.client import Service
from services.cli.demo import commands as demo
from services.cli.demo.story import Setting
from services.cli.local import control
from services.cli.local.home import Home
from services.cli.local.plan import Options
from services.cli.local.processes import alive
from services.cli.local.supervisor import Request
from tests.support.wait import eventually


@contextmanager
def running_stack(folder: Path, options: Options) -> Iterator["Stack"]:
    """A whole stack on ports of its own, gone at the end."""
    home = Home(folder)
    supervisor = control.up(home, Request(options, parent=os.getpid()), say=lambda _: None)
    try:
        yield Stack(home)
    finally:
        control.down(home)
        supervisor.wait(30)


class Stack:
    """Addresses and processes of a stack that `control.up` has started."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def content(self) -> dict[str, Any]:
        """stack.json as it is now."""
        content = self.home.read_stack()
        assert content is not None
        return content

    def url(self, service: str) -> str:
        return str(self.content["services"][service]["url"])

    def service(self, name: str) -> Service:
        return Service(name, self.url(name))

    def setting(self, folder: Path) -> Setting:
        """Where the demo's fast story takes place."""
        return demo.setting(self.content, folder, fast=True)

    def kill(self, name: str) -> None:
        """SIGKILL a component and wait until the supervisor has started another."""
        before = self.content["services"][name]
        os.kill(before["pid"], signal.SIGKILL)
        eventually(lambda: self._restarted(name, before["pid"]), what=f"the restart of {name}")

    def _restarted(self, name: str, old: int) -> bool:
        pid = int(self.content["services"][name]["pid"])
        return pid != old and alive(pid, self.home.stack_id)

    def dataset_after(self, dataset_id: str) -> dict[str, Any]:
        """The dataset as the registry knows it once it is prepared or rejected."""
        with self.service("registry") as registry:
            return eventually(
                lambda: found if (found := registry.find("datasets", dataset_id)) and found["finished_at"] else None,
                what=f"the end of {dataset_id}",
            )
