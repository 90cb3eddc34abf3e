"""docs/cli.md says what the commands do, and names every exit code."""

from services.cli.docs import PAGE, page
from services.cli.errors import MEANING, ExitCode


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "docs/cli.md is stale: run `python -m services.cli.docs`"


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANING) == set(ExitCode)


def test_every_command_is_there() -> None:
    text = page()
    for command in ("apply", "publish", "pipelines get", "datasets list", "runs get", "evaluations get",
                    "models lineage", "rollouts abort", "rollouts decisions", "inbox requeue", "keys new"):
        assert f"## `tuneloop {command}`" in text
