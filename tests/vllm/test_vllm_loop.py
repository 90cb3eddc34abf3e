"""The whole loop on real vLLM: from three datasets to a promotion, a refusal and a rollback."""

from pathlib import Path

import pytest

from services.cli.local.plan import Options
from tests.support.stack import running_stack
from tests.support.story import tell_three_datasets

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


def test_the_story_in_three_datasets(tmp_path: Path) -> None:
    with running_stack(tmp_path / "stack", Options("tiny", engine="vllm", fault_hooks=True)) as stack:
        tell_three_datasets(stack, stack.setting(tmp_path))
