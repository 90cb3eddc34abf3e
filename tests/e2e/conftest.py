"""The real stack with the tiny model, in a folder and on ports of its own; and one on which the story was told once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.demo.story import Setting
from services.cli.local.plan import Options
from tests.support.stack import Stack, running_stack
from tests.support.story import Told, tell_and_watch

OPTIONS = Options("tiny", fault_hooks=True)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack that a module may break."""
    with running_stack(tmp_path_factory.mktemp("stack"), OPTIONS) as running:
        yield running


@pytest.fixture
def setting(stack: Stack, tmp_path: Path) -> Setting:
    """Where the demo's story takes place in tests."""
    return stack.setting(tmp_path)


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A stack on which the story was told, for all that look at what it left behind. Nothing here breaks it."""
    with running_stack(tmp_path_factory.mktemp("told"), OPTIONS) as running:
        yield tell_and_watch(running, tmp_path_factory.mktemp("datasets"))
