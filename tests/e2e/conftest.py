"""The real stack with the tiny model, once for all end-to-end tests, in a folder and on ports of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.demo.story import Setting
from services.cli.local.plan import Options
from tests.support.stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack; each test module has one of its own."""
    with running_stack(tmp_path_factory.mktemp("stack"), Options("tiny", fault_hooks=True)) as running:
        yield running


@pytest.fixture
def setting(stack: Stack, tmp_path: Path) -> Setting:
    """Where the demo's story takes place in tests."""
    return stack.setting(tmp_path)
