"""The real stack with the tiny model, once for all end-to-end tests, in a folder and on ports of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.demo.story import Setting
from services.cli.local import control
from services.cli.local.home import Home
from services.cli.local.plan import Options
from services.cli.local.supervisor import Request
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack; each test module has one of its own."""
    home = Home(tmp_path_factory.mktemp("stack"))
    supervisor = control.up(home, Request(Options("tiny", fault_hooks=True), parent=os.getpid()), say=lambda _: None)
    try:
        yield Stack(home)
    finally:
        control.down(home)
        supervisor.wait(30)


@pytest.fixture
def setting(stack: Stack, tmp_path: Path) -> Setting:
    """Where the demo's story takes place in tests."""
    return stack.setting(tmp_path)
